// Accept is `make accept`: the tests of tests/boot in their full counts, a case each,
// with a line a case and a closing "N passed, N failed": on machines with one CPU, then
// two (NAME/2), then four (NAME/4). It takes hours.
//
// It can be interrupted and started again: a case that has passed with the same kernel,
// pack and tests is not run again (build/accept/state.json). What failed is. -run PATTERN chooses cases,
// -fresh forgets what has passed. The output of each case is in build/accept/NAME.log.
//
// With -quick the counts are those of `make test`, and -runs N runs every case N times (NAME#K,
// NAME/2#K, NAME/4#K): that is `make repeat`, for what goes wrong once in a while. Its state and output
// are in build/repeat; the output of a run that passed is replaced by the next.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"kiln/tests/vmtest"
)

// caseLimit is how long one case may take: a hundred boots, or a soak.
const caseLimit = 3 * time.Hour

type accept struct {
	root, dir, binary string
	state             state
	quick             bool
}

// state is what has passed, for the build with this key.
type state struct {
	Key    string             `json:"key"`
	Passed map[string]float64 `json:"passed"` // seconds
}

func main() {
	pattern := flag.String("run", "", "run only cases that match")
	fresh := flag.Bool("fresh", false, "forget what has passed")
	quick := flag.Bool("quick", false, "the sizes of make test")
	runs := flag.Int("runs", 1, "how often each case runs")
	flag.Parse()
	failed, err := run(*pattern, *fresh, *quick, *runs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "accept:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

func run(pattern string, fresh, quick bool, runs int) (failed bool, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return false, err
	}
	a := &accept{quick: quick}
	if a.root, err = vmtest.Root(); err != nil {
		return false, err
	}
	a.dir = filepath.Join(a.root, "build", "accept")
	if quick {
		a.dir = filepath.Join(a.root, "build", "repeat")
	}
	a.binary = filepath.Join(a.dir, "boot.test")
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return false, err
	}
	if err := a.build(); err != nil {
		return false, err
	}
	if err := a.load(fresh); err != nil {
		return false, err
	}
	names, err := a.list()
	if err != nil {
		return false, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	passed, bad, start := 0, 0, time.Now()
	for _, name := range cases(names, runs) {
		if !re.MatchString(name) {
			continue
		}
		if s, ok := a.state.Passed[name]; ok {
			fmt.Printf("ok    %s (%.0f s, before)\n", name, s)
			passed++
			continue
		}
		took, err := a.one(name, stop)
		if errors.Is(err, errStopped) {
			return false, fmt.Errorf("interrupted in %s: start again to go on", name)
		}
		if errors.Is(err, errFullOnly) {
			fmt.Printf("skip  %s: %v\n", name, err)
			continue
		}
		if err != nil {
			bad++
			fmt.Printf("FAIL  %s (%.0f s): %v\n%s\n", name, took.Seconds(), err, a.tail(name))
			if err := a.keep(name); err != nil {
				return false, err
			}
			continue
		}
		passed++
		fmt.Printf("ok    %s (%.0f s)\n", name, took.Seconds())
		a.state.Passed[name] = took.Seconds()
		if err := a.save(); err != nil {
			return false, err
		}
	}
	if passed+bad == 0 {
		return false, fmt.Errorf("no case matches %q", pattern)
	}
	fmt.Printf("took %s\n%d passed, %d failed\n", time.Since(start).Round(time.Second), passed, bad)
	return bad > 0, nil
}

// cases are all tests on machines with one CPU, then two, then four, then the next run.
func cases(names []string, runs int) (l []string) {
	for k := 1; k <= runs; k++ {
		suffix := ""
		if runs > 1 {
			suffix = fmt.Sprintf("#%d", k)
		}
		for _, n := range []string{"", "/2", "/4"} {
			for _, name := range names {
				l = append(l, name+n+suffix)
			}
		}
	}
	return l
}

func (a *accept) build() error {
	cmd := exec.Command("go", "test", "-c", "-trimpath", "-o", a.binary, "./tests/boot")
	cmd.Dir = a.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the tests: %v\n%s", err, out)
	}
	return nil
}

// key stands for the kernel, pack and the tests.
func (a *accept) key() (string, error) {
	h := sha256.New()
	for _, name := range []string{filepath.Join(a.root, "build/kernel.elf"), filepath.Join(a.root, "build/pack"), a.binary} {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("%w: run `make kernel pack`", err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (a *accept) stateFile() string { return filepath.Join(a.dir, "state.json") }

func (a *accept) load(fresh bool) error {
	key, err := a.key()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(a.stateFile())
	if err == nil && !fresh {
		// A file that is cut off is one that is not there.
		if json.Unmarshal(b, &a.state) != nil {
			a.state = state{}
		}
	}
	if a.state.Key != key || a.state.Passed == nil {
		a.state = state{Key: key, Passed: map[string]float64{}}
	}
	return nil
}

func (a *accept) save() error {
	b, err := json.MarshalIndent(&a.state, "", "\t")
	if err != nil {
		return err
	}
	tmp := a.stateFile() + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, a.stateFile())
}

// list is the names of the tests, in the order of their files.
func (a *accept) list() ([]string, error) {
	cmd := exec.Command(a.binary, "-test.list", ".")
	cmd.Dir = filepath.Join(a.root, "tests", "boot")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the tests: %w", err)
	}
	var names []string
	for _, l := range strings.Fields(string(out)) {
		if strings.HasPrefix(l, "Test") {
			names = append(names, l)
		}
	}
	return names, nil
}

var errStopped = errors.New("stopped")

func (a *accept) log(name string) string {
	name, _, _ = strings.Cut(name, "#")
	return filepath.Join(a.dir, strings.ReplaceAll(name, "/", "-")+".log")
}

// keep puts the output of one of several runs where the next does not replace it.
func (a *accept) keep(name string) error {
	_, run, several := strings.Cut(name, "#")
	if !several {
		return nil
	}
	log := a.log(name)
	return os.Rename(log, strings.TrimSuffix(log, ".log")+"-failed-"+run+".log")
}

// one runs a case.
func (a *accept) one(name string, stop <-chan os.Signal) (time.Duration, error) {
	f, err := os.Create(a.log(name))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	which, _, _ := strings.Cut(name, "#")
	test, cpus, _ := strings.Cut(which, "/")
	cmd := exec.Command(a.binary, "-test.run", "^"+test+"$", "-test.v", "-test.timeout", caseLimit.String())
	cmd.Dir = filepath.Join(a.root, "tests", "boot")
	cmd.Env = append(os.Environ(), "KILN_CPUS="+cpus)
	if !a.quick {
		cmd.Env = append(cmd.Env, "KILN_ACCEPT=1")
	}
	cmd.Stdout, cmd.Stderr = f, f
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err == nil {
			err = a.ran(name)
		}
		return time.Since(start), err
	case <-stop:
		cmd.Process.Kill()
		<-done
		return time.Since(start), errStopped
	}
}

// errFullOnly is a case that has no quick size.
var errFullOnly = errors.New("only in make accept")

// ran says an error for a case that was skipped: it has not been seen to work.
func (a *accept) ran(name string) error {
	b, err := os.ReadFile(a.log(name))
	if err != nil {
		return err
	}
	test, _, _ := strings.Cut(name, "/")
	test, _, _ = strings.Cut(test, "#")
	if strings.Contains(string(b), "--- SKIP: "+test) {
		if a.quick && strings.Contains(string(b), "in make accept") {
			return errFullOnly
		}
		return errors.New("skipped: run it as root")
	}
	return nil
}

// tail is the end of a case's output.
func (a *accept) tail(name string) string {
	b, err := os.ReadFile(a.log(name))
	if err != nil {
		return err.Error()
	}
	var l []string
	for line := range strings.Lines(string(b)) {
		if s := strings.TrimSpace(line); !strings.HasPrefix(s, "--- PASS") && !strings.HasPrefix(s, "=== RUN") && !strings.HasPrefix(s, "@@ ") {
			l = append(l, line)
		}
	}
	b = []byte(strings.Join(l, ""))
	const most = 6000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return "      " + strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "\n      ")
}
