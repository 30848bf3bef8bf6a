// Package gostd runs the tests of Go's own standard library: the test binary of each
// package, built by this host's toolchain, in its folder with what the package has beside
// it. There is no toolchain in the machine, here as on Linux, so the tests that build
// programs skip themselves on both.
package gostd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"kiln/capstan/tree"
	"kiln/tests/suites"
	"kiln/tests/suites/jobs"
	"kiln/tests/suites/jobs/job"
	"kiln/tests/vmtest"
)

// Packages are those whose tests run.
var Packages = []string{"os", "os/exec", "os/signal", "syscall", "time", "sync", "net", "net/http", "runtime"}

// Unit is the name of a package's results.
func Unit(pkg string) string { return strings.ReplaceAll(pkg, "/", "_") }

// Dir is the suite's folder in the tree.
func Dir() (string, error) {
	top, err := vmtest.Root()
	return filepath.Join(top, "tests", "suites", "gostd"), err
}

// Limit is what a package's tests may take at once, on either kernel.
const Limit = 8 * time.Minute

// goroot is that of this host.
func goroot() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	return strings.TrimSpace(string(out)), err
}

// tools are what the tests run.
var tools = []string{"/bin/sh", "/bin/cat", "/bin/echo", "/bin/sleep", "/bin/true", "/bin/false", "/bin/pwd", "/bin/ls", "/bin/hostname",
	"/usr/bin/env", "/bin/stty", "/usr/bin/head", "/bin/ps", "/usr/bin/id", "/bin/kill", "/bin/date", "/bin/bash", "/bin/mkdir", "/bin/rm",
	"/usr/bin/nohup", "/bin/uname", "/bin/mount", "/usr/bin/whoami", "/usr/bin/unshare", "/usr/bin/ip"}

// newRoot is a machine for a package's tests.
func newRoot(pkg string) (*tree.Tree, error) {
	var have []string
	for _, t := range tools {
		if _, err := os.Stat(t); err == nil {
			have = append(have, t)
		}
	}
	root, err := jobs.Root(have...)
	if err != nil {
		return nil, err
	}
	goroot, err := goroot()
	if err != nil {
		return nil, err
	}
	top, err := vmtest.Root()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(top, "build", "programs", "gostd-"+Unit(pkg))
	cmd := exec.Command("go", "test", "-c", "-o", bin, pkg)
	cmd.Dir, cmd.Env = filepath.Join(goroot, "src"), append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the tests of %s: %w\n%s", pkg, err, msg)
	}
	n, err := tree.HostFile(bin)
	if err != nil {
		return nil, err
	}
	// In the tree the toolchain is at one place whatever this host has.
	if err := root.Add("/test/"+path.Base(pkg), n); err != nil {
		return nil, err
	}
	host := tree.HostSource{Dir: goroot}
	src := "/src/" + pkg
	t := tree.New()
	err = t.CopyTree(host, src, func(name string, n *tree.Node) bool {
		rel := strings.TrimPrefix(name, src+"/")
		first, _, below := strings.Cut(rel, "/")
		return !below || first == "testdata"
	})
	if err != nil {
		return nil, err
	}
	for _, more := range extra[pkg] {
		if err := t.CopyPath(host, more); err != nil {
			return nil, err
		}
	}
	err = t.Walk(func(name string, n *tree.Node) error {
		if n.Mode.IsDir() {
			n = tree.Dir(0o755)
		}
		return root.Add("/usr/local/go"+name, n)
	})
	return root, err
}

// extra are files of other folders that a package's tests read.
var extra = map[string][]string{
	"net": {"/src/testdata/Isaac.Newton-Opticks.txt"}, "net/http": {"/src/testdata/Isaac.Newton-Opticks.txt"},
	"time": {"/lib/time/zoneinfo.zip", "/src/time/tzdata/zzipdata.go"},
}

// Result is a run of a package.
type Result struct {
	suites.Unit
	Output string // of all runs
	Notes  []string
}

// Run runs a package's tests. A test that ends the binary, by its death or by hanging,
// has failed; those behind it run in another go. run is a regular expression for
// -test.run, empty for all.
func Run(ctx context.Context, on jobs.Runner, pkg, run string) (*Result, error) {
	root, err := newRoot(pkg)
	if err != nil {
		return nil, err
	}
	r := &Result{Unit: suites.Unit{}}
	for range 12 {
		args := []string{"-test.v", "-test.short", "-test.paniconexit0", "-test.timeout=" + fmt.Sprint(Limit-time.Minute)}
		if run != "" {
			args = append(args, "-test.run="+run)
		}
		if skip := r.done(); skip != "" {
			args = append(args, "-test.skip="+skip)
		}
		said, err := on(ctx, root, []job.Job{{
			Name: Unit(pkg), Path: "/test/" + path.Base(pkg), Args: args, Dir: "/usr/local/go/src/" + pkg, Limit: Limit,
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp", "USER=root", "LANG=C"},
		}})
		if err != nil {
			return r, err
		}
		out := said[Unit(pkg)]
		r.Output += out.Output
		open := r.read(out.Output)
		if len(open) == 0 && (out.Status == 0 || out.Status == 1) {
			return r, nil
		}
		r.Notes = append(r.Notes, fmt.Sprintf("status %d with %s open", out.Status, strings.Join(open, " ")))
		if len(open) == 0 {
			return r, nil
		}
		for _, id := range open {
			r.Unit[id] = suites.Fail
		}
	}
	return r, fmt.Errorf("%s: the binary died again and again", pkg)
}

// done is an expression for the tests (not subtests) that are over.
func (r *Result) done() string {
	var names []string
	for id := range r.Unit {
		if !strings.Contains(id, "/") {
			names = append(names, id)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "^(" + strings.Join(names, "|") + ")$"
}

var verdict = regexp.MustCompile(`(?m)--- (PASS|FAIL|SKIP): (\S+) \([0-9.]+s\)$`)
var started = regexp.MustCompile(`(?m)=== RUN   (\S+)$`)

// read takes the verdicts from what a binary said, and gives the tests that were started
// and have none.
func (r *Result) read(out string) (open []string) {
	for _, m := range verdict.FindAllStringSubmatch(out, -1) {
		r.Unit[m[2]] = suites.Outcome(strings.ToLower(m[1]))
	}
	for _, m := range started.FindAllStringSubmatch(out, -1) {
		if r.Unit[m[1]] == "" {
			open = append(open, m[1])
		}
	}
	return open
}
