// Package fuzztargets runs the Go fuzz targets of the tree, which are those of whatever reads
// what others have written: programs, images, packets, tables of the firmware, rings of devices.
//
// Their seeds, and what was found once (testdata/fuzz of the package), run with the tests of
// their package. `make test` fuzzes each target for twenty seconds beside the boots, in the
// time that those leave idle (Background), `make accept` for its share of an hour.
package fuzztargets

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Target is one.
type Target struct {
	Dir  string // of its package, below the root: "net"
	Name string // "FuzzFrame"
}

func (t Target) String() string { return t.Dir + "/" + t.Name }

var reTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// List is the targets of the tree, by package.
func List(root string) (out []Target, err error) {
	err = filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "build" || d.Name() == ".git" || d.Name() == "fuzztargets") {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		b, err := os.ReadFile(name)
		for _, m := range reTarget.FindAllSubmatch(b, -1) {
			rel, _ := filepath.Rel(root, filepath.Dir(name))
			out = append(out, Target{rel, string(m[1])})
		}
		return err
	})
	return out, err
}

// Result is what a run gave.
type Result struct {
	Target Target
	Execs  int // inputs tried
	Err    error
	// Stopped: the context ended before the time was over.
	Stopped bool
}

// Options of a run.
type Options struct {
	Root string
	Time time.Duration
	// Idle runs it in the scheduler's idle class, on one processor, so that it takes no time
	// from anybody.
	Idle bool
}

// stuck is how long a target may try nothing new before its last input counts as one that
// does not end, where it has processors of its own.
const stuck = 15 * time.Second

// Run fuzzes one target for o.Time, after its package has been built for that.
func Run(ctx context.Context, t Target, o Options) Result {
	// Interesting inputs are not made shorter for longer than that: by default for a minute each,
	// in which nothing is tried.
	args := []string{"go", "test", "-run", "^$", "-fuzz", "^" + t.Name + "$", "-fuzztime", o.Time.String(), "-fuzzminimizetime", "50x"}
	if o.Idle {
		args = append([]string{"chrt", "--idle", "0"}, append(args, "-p", "1", "-parallel", "1")...)
	}
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], "./"+t.Dir)...)
	cmd.Dir = o.Root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	r := Result{Target: t}
	var still time.Duration
	r.Execs, still = progress(string(out))
	switch {
	case ctx.Err() != nil:
		r.Stopped = true
	case err != nil && !late(string(out)):
		r.Err = fmt.Errorf("%v\n%s%s", err, out, written(o.Root, t, string(out)))
	case !o.Idle && still > stuck:
		r.Err = fmt.Errorf("no input has ended in the last %v\n%s", still, out)
	}
	return r
}

var reProgress = regexp.MustCompile(`(?m)^fuzz: elapsed: (\S+), execs: (\d+) `)

// progress reads go test's lines: inputs tried, and the time since there was a new one.
func progress(out string) (execs int, still time.Duration) {
	var since time.Duration
	for _, m := range reProgress.FindAllStringSubmatch(out, -1) {
		at, _ := time.ParseDuration(m[1])
		if n, _ := strconv.Atoi(m[2]); n > execs {
			execs, since = n, at
		}
		still = at - since
	}
	return execs, still
}

// late says that go test failed at the end of its time for no input's reason: it says so
// when a worker answers late (go.dev/issue/75804).
func late(out string) bool {
	return strings.Contains(out, "context deadline exceeded") && !strings.Contains(out, "Failing input") && !strings.Contains(out, "panic:")
}

var reWritten = regexp.MustCompile(`Failing input written to (\S+)`)

// written is the input that failed, to be kept in the package's testdata.
func written(root string, t Target, out string) string {
	m := reWritten.FindStringSubmatch(out)
	if m == nil {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(root, t.Dir, m[1]))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s/%s is\n%s", t.Dir, m[1], b)
}

// Background runs targets one after another in the idle class, beginning with another one at
// each turn, until all had their time or the context ends.
func Background(ctx context.Context, root string, turn int, d time.Duration) <-chan Result {
	c := make(chan Result, 1)
	go func() {
		defer close(c)
		all, err := List(root)
		if err != nil {
			c <- Result{Err: err}
		}
		for i := range all {
			if ctx.Err() != nil {
				return
			}
			// Not the next one: a run does more than one of them.
			c <- Run(ctx, all[(turn*7+i)%len(all)], Options{Root: root, Time: d, Idle: true})
		}
	}()
	return c
}
