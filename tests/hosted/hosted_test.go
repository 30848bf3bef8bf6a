package hosted

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/kernel/image"
	"kiln/kernel/task"
	"kiln/syscalls"
	"kiln/tests/conformance"
	"kiln/tests/programs"
	"kiln/tests/rotation"
)

// Each conformance case runs on a machine of its own and must print what Linux
// printed, and end as it did there. With the race detector it is the same on four
// processors only.
func TestConformance(t *testing.T) {
	if raceDetector {
		t.Skip("TestConformanceOnFourCPUs has more to find")
	}
	inParts(t, fewParts, onCPUs(0))
}

func onCPUs(cpus int) (l []item) {
	for _, c := range conformance.Cases() {
		l = append(l, item{c.Name, func(t *testing.T) {
			if c.Slow && testing.Short() {
				t.Skip("slow")
			}
			check(t, c, cpus)
		}})
	}
	return l
}

// check runs a case on a number of processors; 0: as start has it.
func check(t *testing.T, c conformance.Case, cpus int) {
	t.Helper()
	want, err := conformance.Golden(c.Name)
	if err != nil {
		t.Fatal(err)
	}
	want = conformance.Excuse(want)
	r := start(t, c)
	used := &seen{entries: map[string][2]bool{}}
	if cpus > 0 {
		r.CPUs = cpus
		r.Observe = jitter()
	} else if !raceDetector {
		r.Observe = used.observe
		defer func() {
			if !t.Failed() {
				covers(t, c, used)
			}
		}()
	}
	res, err := r.Do()
	if err != nil {
		t.Fatalf("%v\noutput:\n%s\nkernel:\n%s", err, tail(res.Output), tail(res.Log))
	}
	got := conformance.Text(res.Output, res.Status)
	d := conformance.Diff(want, got)
	if d != "" && ofTheHost[c.Name] && conformance.Diff(onTheHost(t, c), got) == "" {
		t.Skipf("it is this host's doing:\n%s", d)
	}
	if d != "" {
		t.Errorf("Linux (-) and Kiln (+):\n%s\nkernel:\n%s", d, tail(res.Log))
	}
}

// ofTheHost are the cases about what hosted leaves to the host, which is not the same on all of
// them: some paravirtual ones clear RFLAGS.NT in a system call. QEMU has them on a machine.
var ofTheHost = map[string]bool{"rflags": true}

// onTheHost is what a case says there.
func onTheHost(t *testing.T, c conformance.Case) string {
	t.Helper()
	path, err := programs.Build(c.Program)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, c.Args...)
	cmd.Args[0], cmd.Env = conformance.Path(c.Program), append(append([]string(nil), conformance.Env...), c.Env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return conformance.Text(string(out), cmd.ProcessState.ExitCode())
}

// The same on four processors, where threads and processes run beside each other. make test runs
// all of it with the race detector, and a third each time without.
func TestConformanceOnFourCPUs(t *testing.T) { inParts(t, fewParts, byTurn(3, onCPUs(4))) }

// jitter delays calls at random, at the entry or at the end, with KILN_JITTER=N in the
// environment: one in N by up to 5 ms. A case that depends on who is quicker then differs, and
// an order that the kernel forgot to keep shows more often.
func jitter() func(*task.Thread, string, syscalls.Args) func(error) {
	n, _ := strconv.Atoi(os.Getenv("KILN_JITTER"))
	if n <= 0 {
		return nil
	}
	delay := func() {
		if rand.IntN(2*n) == 0 {
			time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
		}
	}
	return func(*task.Thread, string, syscalls.Args) func(error) {
		delay()
		return func(error) { delay() }
	}
}

// raceDetector says that the tests were built with it (race_test.go).
var raceDetector bool

// A case counts for a system call only if it notices that the call is missing. make test, which
// sets the turn, asks a third of them each time.
func TestCasesNoticeThatTheirCallsAreMissing(t *testing.T) {
	if raceDetector {
		t.Skip("about the cases, not about races: runs without the race detector")
	}
	var l []item
	for _, c := range conformance.Cases() {
		want, err := conformance.Golden(c.Name)
		if err != nil {
			continue // TestConformance says so
		}
		for _, call := range c.Calls {
			l = append(l, item{c.Name + "/" + call, func(t *testing.T) {
				r := start(t, c)
				r.Without, r.Limit = []string{call}, 10*time.Second
				res, err := r.Do()
				if err == nil && conformance.Diff(want, conformance.Text(res.Output, res.Status)) == "" {
					t.Errorf("the case says the same without %s", call)
				}
			}})
		}
	}
	inParts(t, manyParts, byTurn(3, l))
}

// byTurn is one in n of l where the turn is set, as in make test, else all.
func byTurn(n int, l []item) []item {
	if os.Getenv(rotation.Env) == "" {
		return l
	}
	turn, _ := rotation.Turn()
	return oneIn(n, turn, l)
}

// oneIn is every n-th item, others at each of n turns.
func oneIn(n, turn int, l []item) (some []item) {
	for i := turn % n; i < len(l); i += n {
		some = append(some, l[i])
	}
	return some
}

// start prepares a case. KILN_STRACE=1 logs its system calls, KILN_CPUS=N gives the
// machine N processors.
func start(t *testing.T, c conformance.Case) *Run {
	t.Helper()
	root, err := conformance.Root([]conformance.Case{c})
	if err != nil {
		t.Fatal(err)
	}
	path := conformance.Path(c.Program)
	cpus, _ := strconv.Atoi(os.Getenv("KILN_CPUS"))
	return &Run{
		Root: root, CPUs: cpus,
		Config: image.Config{
			Name: c.Name, Strace: os.Getenv("KILN_STRACE") != "", Program: path, Args: append([]string{path}, c.Args...),
			Env: append(append([]string(nil), conformance.Env...), c.Env...),
		},
	}
}

func tail(s string) string {
	if n := len(s) - 6000; n > 0 {
		return "…" + s[n:]
	}
	return s
}

func TestExitStatuses(t *testing.T) {
	for _, status := range []int{0, 1, 42, 255} {
		res, err := start(t, conformance.Case{Program: "end", Args: []string{"exit", fmt.Sprint(status)}}).Do()
		if err != nil || res.Status != status {
			t.Errorf("exit %d: status %d, %v\n%s", status, res.Status, err, res.Log)
		}
	}
}

func TestCrashIsReportedInWords(t *testing.T) {
	res, err := start(t, conformance.Case{Program: "end", Args: []string{"null"}}).Do()
	if err != nil || res.Status != 139 {
		t.Fatalf("status %d, %v", res.Status, err)
	}
	for _, w := range []string{"SIGSEGV", "end"} {
		if !strings.Contains(res.Log, w) {
			t.Errorf("the report does not name %q:\n%s", w, res.Log)
		}
	}
}

func TestProgramThatEatsAllMemoryIsKilled(t *testing.T) {
	r := start(t, conformance.Case{Program: "eater"})
	r.Memory = 96 << 20
	res, err := r.Do()
	if err != nil || res.Status != 137 {
		t.Fatalf("status %d, %v\n%s\n%s", res.Status, err, tail(res.Output), tail(res.Log))
	}
	if !strings.Contains(res.Log, "eater") {
		t.Errorf("no line names the program:\n%s", res.Log)
	}
}

// The kernel's garbage collector and a program that never enters the kernel do not
// wait for each other.
func TestCollectionsGoOnBesideASpinningProgram(t *testing.T) {
	r := start(t, conformance.Case{Program: "spin", Args: []string{"1"}})
	stop, count := make(chan bool), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				count <- n
				return
			default:
				runtime.GC()
				n++
			}
		}
	}()
	res, err := r.Do()
	close(stop)
	if n := <-count; n < 3 {
		t.Errorf("%d collections in a second", n)
	}
	if err != nil || res.Status != 0 || !strings.HasSuffix(strings.TrimSpace(res.Output), "spun") {
		t.Errorf("status %d, %v\n%s", res.Status, err, res.Output)
	}
}
