// Package busybox runs Debian's busybox-static: a case for each applet (cases.sh), whose
// output and status must be those that Linux gave (output.txt). Debian does not package
// busybox's own test suite.
package busybox

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kiln/capstan/tree"
	"kiln/tests/suites"
	"kiln/tests/suites/jobs"
	"kiln/tests/suites/jobs/job"
	"kiln/tests/vmtest"
)

// Unit is the name of the results.
const Unit = "applets"

//go:embed cases.sh
var cases string

// Dir is the suite's folder in the tree.
func Dir() (string, error) {
	top, err := vmtest.Root()
	return filepath.Join(top, "tests", "suites", "busybox"), err
}

// Case is an applet and the script about it.
type Case struct{ Name, Script string }

// Cases are all, in their order.
func Cases() (l []Case) {
	for _, s := range strings.Split("\n"+cases, "\n## ")[1:] {
		name, script, _ := strings.Cut(s, "\n")
		l = append(l, Case{name, script + "\n"})
	}
	return l
}

// root is a machine with busybox alone: /bb has its applets.
func root(list []Case) func() (*tree.Tree, error) {
	return func() (*tree.Tree, error) {
		program, err := exec.LookPath("busybox")
		if err != nil {
			return nil, fmt.Errorf("%w: .ci/setup installs busybox-static", err)
		}
		t, err := jobs.Root()
		if err != nil {
			return nil, err
		}
		n, err := tree.HostFile(program)
		if err != nil {
			return nil, err
		}
		if err := t.Add("/usr/bin/busybox", n); err != nil {
			return nil, err
		}
		applets, err := exec.Command(program, "--list").Output()
		if err != nil {
			return nil, err
		}
		for _, a := range strings.Fields(string(applets)) {
			if err := t.Add("/bb/"+a, tree.Symlink("/usr/bin/busybox")); err != nil {
				return nil, err
			}
		}
		for _, c := range list {
			if err := t.Add("/cases/"+c.Name, tree.File(0o644, []byte(c.Script))); err != nil {
				return nil, err
			}
		}
		// Each case in a folder of its own, and the host's name and limits as they were.
		return t, t.Add("/case", tree.File(0o755, []byte("#!/usr/bin/busybox sh\nhostname kiln; mkdir /tmp/w && cd /tmp/w && exec 2>&1 && . \"$1\"\n")))
	}
}

// Run runs cases on a machine; the answer is what each printed, "?" if it did not come back.
func Run(ctx context.Context, on jobs.Runner, list []Case, log func(string)) (map[string]string, error) {
	var js []job.Job
	for _, c := range list {
		js = append(js, job.Job{Name: c.Name, Path: "/case", Args: []string{"/cases/" + c.Name}, Limit: 40 * time.Second,
			Env: []string{"PATH=/bb", "HOME=/root", "TZ=UTC", "LC_ALL=C", "TERM=dumb"}})
	}
	said, err := jobs.All(ctx, on, root(list), js, log)
	out := map[string]string{}
	for _, c := range list {
		s, ok := said[c.Name]
		if !ok {
			out[c.Name] = "?\n"
			continue
		}
		text := strings.ReplaceAll(strings.ReplaceAll(s.Output, "\r", "\\r"), "\x00", "\\0")
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\\\n"
		}
		out[c.Name] = fmt.Sprintf("%sstatus %d\n", text, s.Status)
	}
	return out, err
}

// Recorded is what Linux printed, by applet.
func Recorded() (map[string]string, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "output.txt"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, s := range strings.Split("\n"+string(b), "\n## ")[1:] {
		name, text, _ := strings.Cut(s, "\n")
		out[name] = strings.TrimSuffix(text, "\n") + "\n"
	}
	return out, nil
}

// Record writes what Linux printed, and that every case is one that Linux passes.
func Record(said map[string]string) error {
	dir, err := Dir()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	u := suites.Unit{}
	for _, c := range Cases() {
		fmt.Fprintf(&b, "## %s\n%s", c.Name, said[c.Name])
		u[c.Name] = suites.Pass
		if said[c.Name] == "?\n" || strings.HasSuffix(said[c.Name], fmt.Sprintf("status %d\n", job.Late)) {
			u[c.Name] = suites.Fail
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "output.txt"), b.Bytes(), 0o644); err != nil {
		return err
	}
	return u.Write(filepath.Join(dir, "linux", Unit+".txt"))
}

// Judge compares what was printed here with what Linux printed.
func Judge(here, linux map[string]string) suites.Unit {
	u := suites.Unit{}
	for name, text := range here {
		u[name] = suites.Fail
		if text == linux[name] {
			u[name] = suites.Pass
		}
	}
	return u
}

// Named are the cases with these names; all of them if there are none.
func Named(names []string) []Case {
	all := Cases()
	if len(names) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(c Case) bool { return !slices.Contains(names, c.Name) })
}

// Diff shows where two texts differ, line by line.
func Diff(linux, here string) string {
	a, b := strings.Split(linux, "\n"), strings.Split(here, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return "Linux:\n\t" + strings.Join(a, "\n\t") + "\nhere:\n\t" + strings.Join(b, "\n\t") + "\n"
}
