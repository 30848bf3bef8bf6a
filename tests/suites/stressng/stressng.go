// Package stressng runs each of stress-ng's stressors for a moment, with --verify: Debian's
// package, on Linux and on Kiln. A stressor passes when stress-ng says so (status 0).
package stressng

import (
	"context"
	"fmt"
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
const Unit = "stressors"

// Program is Debian's.
const Program = "/usr/bin/stress-ng"

// Dir is the suite's folder in the tree.
func Dir() (string, error) {
	top, err := vmtest.Root()
	return filepath.Join(top, "tests", "suites", "stressng"), err
}

// Stressors are all that stress-ng has.
func Stressors() ([]string, error) {
	out, err := exec.Command(Program, "--stressors").Output()
	if err != nil {
		return nil, fmt.Errorf("%w: .ci/setup installs stress-ng", err)
	}
	return strings.Fields(string(out)), nil
}

// small are sizes for stressors whose own are made for large machines.
var small = map[string][]string{
	"bigheap": {"--bigheap-growth", "4m"}, "hdd": {"--hdd-bytes", "16m"},
	"fallocate": {"--fallocate-bytes", "16m"}, "fiemap": {"--fiemap-bytes", "16m"}, "iomix": {"--iomix-bytes", "16m"}, "malloc": {"--malloc-bytes", "16m"},
	"memfd": {"--memfd-bytes", "16m"}, "memrate": {"--memrate-bytes", "16m"}, "mmap": {"--mmap-bytes", "16m"},
	"mremap": {"--mremap-bytes", "8m"}, "msync": {"--msync-bytes", "8m"}, "readahead": {"--readahead-bytes", "16m"},
	"revio": {"--revio-bytes", "16m"}, "seek": {"--seek-size", "16m"}, "sendfile": {"--sendfile-size", "1m"}, "shm": {"--shm-bytes", "4m"},
	"shm-sysv": {"--shm-sysv-bytes", "4m"}, "sync-file": {"--sync-file-bytes", "8m"}, "vm": {"--vm-bytes", "16m"}, "vm-rw": {"--vm-rw-bytes", "4m"},
	"vm-splice": {"--vm-splice-bytes", "1m"}, "stream": {"--stream-l3-size", "1m"}, "matrix-3d": {"--matrix-3d-size", "32"},
	"matrix": {"--matrix-size", "64"}, "qsort": {"--qsort-size", "4096"}, "userfaultfd": {"--userfaultfd-bytes", "4m"},
	"zombie": {"--zombie-max", "200"}, "pthread": {"--pthread-max", "64"},
	"randlist": {"--randlist-items", "1000"},
}

// Job is a stressor's: a few operations, and no more than 4 seconds. What does not end by
// itself then, with the time that stress-ng itself gives its stressors to end, has failed.
func Job(name string) job.Job {
	args := []string{"--" + name, "1", "--verify", "-t", "4", "--temp-path", "/tmp", "--no-rand-seed", "--log-brief", "--oomable", "--pathological"}
	if name != "binderfs" { // it knows no number of operations
		args = append(args, "--"+name+"-ops", ops(name))
	}
	return job.Job{
		Name: name, Path: Program, Args: append(args, small[name]...), Dir: "/tmp", Limit: time.Minute,
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
	}
}

func ops(name string) string {
	switch name {
	case "cpu", "vm", "fault", "pipe", "context", "switch", "futex", "sem", "signal", "yield", "timer", "timerfd", "hrtimers", "getdent", "null", "zero", "mutex":
		return "200"
	}
	return "20"
}

// Root is a machine with stress-ng.
func Root() (*tree.Tree, error) { return jobs.Root(Program, "/bin/true", "/bin/sh") }

// Said is what a stressor printed, by its name.
type Said map[string]jobs.Said

// Run runs stressors on a machine, and on the next those behind one that ended it.
func Run(ctx context.Context, on jobs.Runner, names []string, log func(string)) (suites.Unit, Said, error) {
	var list []job.Job
	for _, n := range names {
		list = append(list, Job(n))
	}
	said, err := jobs.All(ctx, on, Root, list, log)
	u := suites.Unit{}
	for _, n := range names {
		s, ok := said[n]
		u[n] = outcome(s, ok)
	}
	return u, said, err
}

// What stress-ng's status means (stress-ng(1), EXIT STATUS).
const (
	statusNoResource  = 3
	statusUnsupported = 4
)

func outcome(s jobs.Said, ok bool) suites.Outcome {
	switch {
	case !ok:
		return suites.Fail
	case s.Status == statusNoResource || s.Status == statusUnsupported:
		return suites.Skip
	case s.Status != 0:
		return suites.Fail
	case slices.ContainsFunc(strings.Split(s.Output, "\n"), skipped):
		return suites.Skip
	}
	return suites.Pass
}

func skipped(line string) bool {
	return strings.Contains(line, "skipping stressor") || strings.Contains(line, "will be skipped") || strings.Contains(line, "No stress workers invoked")
}
