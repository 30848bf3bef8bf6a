package conformance

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"kiln/tests/conformance/guest/job"
	"kiln/tests/vmtest"
)

// GuestPath is where a root holds the program that runs cases one after the other
// (tests/conformance/guest), on either kernel.
const GuestPath = "/guest"

// GuestFiles are the files that it needs in the root, by path.
func GuestFiles(cases []Case) (map[string][]byte, error) {
	top, err := vmtest.Root()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(top, "build", "programs", "guest")
	cmd := exec.Command("go", "build", "-o", bin, "./tests/conformance/guest")
	cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the guest's program: %w\n%s", err, msg)
	}
	guest, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	var jobs []job.Job
	for _, c := range cases {
		env := append(slices.Clone(Env), c.Env...)
		jobs = append(jobs, job.Job{Name: c.Name, Path: Path(c.Program), Args: c.Args, Env: env})
	}
	j, err := json.Marshal(jobs)
	return map[string][]byte{GuestPath: guest, job.File: j}, err
}

// GuestOutput takes the guest's console apart: the text of each case by name.
func GuestOutput(console string) (map[string]string, error) {
	texts := map[string]string{}
	for line := range strings.Lines(console) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "@@" {
			continue
		}
		var status int
		if _, err := fmt.Sscan(f[2], &status); err != nil {
			return nil, fmt.Errorf("%s: %w", f[1], err)
		}
		data := ""
		if len(f) > 3 {
			data = f[3]
		}
		out, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f[1], err)
		}
		texts[f[1]] = Text(string(out), status)
	}
	return texts, nil
}
