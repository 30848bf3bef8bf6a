// Command record boots Debian's kernel, runs every conformance case there and writes
// tests/conformance/testdata. Arguments are names of cases; none means all.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kiln/tests/conformance"
	"kiln/tests/conformance/guest/job"
	"kiln/tests/linuxguest"
	"kiln/tests/linuxguest/spec"
	"kiln/tests/vmtest"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(names []string) error {
	var cases []conformance.Case
	for _, c := range conformance.Cases() {
		if len(names) == 0 || slices.Contains(names, c.Name) {
			cases = append(cases, c)
		}
	}
	root, err := conformance.Root(cases)
	if err != nil {
		return err
	}
	files, err := guestFiles(cases)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	k, err := linuxguest.Get(ctx)
	if err != nil {
		return err
	}
	g := &linuxguest.Guest{
		Kernel: k, Root: root, Files: files,
		Spec: spec.Spec{Path: "/guest", Dir: "/", Args: []string{"/guest"}, Env: conformance.Env},
		Args: []string{"-machine", "q35", "-cpu", "max,la57=off", "-m", "512", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none"},
	}
	out, err := g.Run(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return write(out, len(cases))
}

func guestFiles(cases []conformance.Case) (map[string]string, error) {
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
		env := append(slices.Clone(conformance.Env), c.Env...)
		jobs = append(jobs, job.Job{Name: c.Name, Path: conformance.Path(c.Program), Args: c.Args, Env: env})
	}
	j, err := json.Marshal(jobs)
	return map[string]string{"guest": string(guest), "cases.json": string(j)}, err
}

// write takes the console apart.
func write(console string, want int) error {
	top, err := vmtest.Root()
	if err != nil {
		return err
	}
	n := 0
	for _, line := range strings.Split(console, "\n") {
		var name, data string
		var status int
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "@@" {
			continue
		}
		name = f[1]
		if _, err := fmt.Sscan(f[2], &status); err != nil {
			return err
		}
		if len(f) > 3 {
			data = f[3]
		}
		out, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		file := filepath.Join(top, "tests", "conformance", "testdata", name+".golden")
		if err := os.WriteFile(file, []byte(conformance.Text(string(out), status)), 0o644); err != nil {
			return err
		}
		n++
	}
	if n != want {
		return fmt.Errorf("%d of %d cases came back:\n%s", n, want, console[max(0, len(console)-4000):])
	}
	fmt.Printf("%d cases recorded\n", n)
	return nil
}
