package lockorder

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/tests/vmtest"
)

// known are pairs that form circles of classes and none of locks, with the reason.
var known = map[string]string{
	"kiln/kernel/hosted.AddressSpace.mu kiln/kernel/hosted.AddressSpace.mu":     "fork: of a child that nobody knows yet, under its parent's",
	"kiln/kernel/hal/fake.AddressSpace.mu kiln/kernel/hal/fake.AddressSpace.mu": "the same",
	"kiln/kernel/metal/paging.Space.mu kiln/kernel/metal/paging.Space.mu":       "the same",
	"kiln/kernel/task.futexBucket.mu kiln/kernel/task.futexBucket.mu":           "in the order of their indices (futex.go, lock2)",
	"kiln/fs/epoll.Set.mtx kiln/fs/epoll.Set.mtx":                               "a set that is in another, under the other's; there are no circles of sets (ctl.go, mayNest)",
}

// others are packages of others, of whose own locks nothing is said here.
var others = []string{"gvisor.dev/", "syscall.", "testing."}

// A program of two locks in both orders, and of one in the order of two, is told of; what is
// in order is not.
func TestCirclesAreFound(t *testing.T) {
	dir := t.TempDir()
	source := `package main

import "sync"

type a struct{ mu sync.Mutex }
type b struct{ mu sync.RWMutex }
type c struct{ mu sync.Mutex }

func main() {
	x, y, z, w := &a{}, &b{}, &c{}, &c{}
	x.mu.Lock()
	y.mu.RLock()
	y.mu.RUnlock()
	x.mu.Unlock()
	y.mu.Lock()
	x.mu.Lock()
	x.mu.Unlock()
	z.mu.Lock()
	z.mu.Unlock()
	y.mu.Unlock()
	z.mu.Lock()
	w.mu.Lock()
	w.mu.Unlock()
	z.mu.Unlock()
}
`
	for name, text := range map[string]string{"main.go": source, "go.mod": "module m\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, overlay := watched(t)
	cmd := exec.Command("go", "run", "-overlay", overlay, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	classes, err := ReadClasses(dir, ".")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGraph(classes)
	if err := g.Read(bytes.NewReader(out)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range g.Circles(nil) {
		pair, _, _ := strings.Cut(c, ":")
		got = append(got, pair)
	}
	want := []string{"m.b.mu is taken under m.a.mu", "m.a.mu is taken under m.b.mu", "m.c.mu is taken under m.c.mu"}
	if !slices.Equal(got, want) {
		t.Errorf("circles %q, want %q; printed:\n%s", got, want, out)
	}
	if l := g.Circles(map[string]string{"m.c.mu m.c.mu": "x", "m.a.mu m.b.mu": "x"}); len(l) != 0 {
		t.Errorf("beside what is known: %q", l)
	}
}

// The kernel's locks are taken in one order in all cases of the conformance suite, on four
// CPUs, and in the tests of its packages; a thread that gives its CPU away holds none but the
// scheduler's, or those who wait for it would hold up their CPUs, and it would never come back.
func TestTheKernelsLocksHaveOneOrder(t *testing.T) {
	if os.Getenv("KILN_ACCEPT") == "" {
		t.Skip("takes minutes: KILN_ACCEPT=1, or make accept")
	}
	top, overlay := watched(t)
	classes, err := ReadClasses(top, "kiln/...", "gvisor.dev/gvisor/pkg/tcpip/...")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGraph(classes)
	var mu sync.Mutex
	read := func(out []byte) {
		mu.Lock()
		defer mu.Unlock()
		if err := g.Read(bytes.NewReader(out)); err != nil {
			t.Error(err)
		}
	}
	hosted := filepath.Join(t.TempDir(), "hosted.test")
	goTest(t, top, "-overlay", overlay, "-c", "-o", hosted, "./tests/hosted")
	const parts = 2
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), hosted, "-test.v", "-test.timeout", "1h", "-test.run", "^TestConformanceOnFourCPUs$")
			cmd.Dir = filepath.Join(top, "tests", "hosted")
			cmd.Env = append(os.Environ(), fmt.Sprintf("KILN_PART=%d/%d", i, parts))
			cmd.WaitDelay = time.Minute
			out, err := cmd.CombinedOutput()
			if err != nil {
				told(t, fmt.Sprint("part ", i), err, out)
			}
			read(out)
		})
	}
	all.Wait()
	// The watch allocates, so what is to allocate nothing fails under it.
	read(goTest(t, top, "-overlay", overlay, "-v", "-count=1", "-skip", "Allocate", "./net/...", "./fs/...", "./kernel/...", "./syscalls/...", "./drivers/...", "./loader/..."))
	t.Logf("%d pairs of classes of locks", g.Len())
	if g.Len() < 200 {
		t.Errorf("only %d pairs: the watch does not see the kernel's locks", g.Len())
	}
	std, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	others := append(slices.Clone(others), std)
	for _, c := range g.Circles(known) {
		if !slices.ContainsFunc(others, func(o string) bool { return strings.HasPrefix(c, o) }) {
			t.Error(c)
		}
	}
	for _, at := range g.Again {
		t.Errorf("taken by one that holds it: %s", at)
	}
	if !slices.Equal(g.Parked, []string{"kiln/kernel/task.Sched.mu"}) {
		t.Errorf("a thread without a CPU holds %q, want the scheduler's lock alone", g.Parked)
	}
}

// watched is the tree and the overlay of a watched build of it.
func watched(t *testing.T) (top, overlay string) {
	t.Helper()
	top, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	if overlay, err = Overlay(t.TempDir(), top); err != nil {
		t.Fatal(err)
	}
	return top, overlay
}

func goTest(t *testing.T, top string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"test"}, args...)...)
	cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if err != nil {
		told(t, strings.Join(cmd.Args, " "), err, out)
	}
	return out
}

// told judges a run with failures: the watch makes all slow, and what fails for that is told
// and no more; but what breaks off has not shown all its locks.
func told(t *testing.T, what string, err error, out []byte) {
	t.Helper()
	broken := !bytes.HasSuffix(bytes.TrimSpace(out), []byte("FAIL"))
	for _, end := range []string{"\nfatal error: ", "\npanic: ", "[build failed]", "[setup failed]"} {
		broken = broken || bytes.Contains(out, []byte(end))
	}
	if broken {
		t.Errorf("%s: %v", what, err)
	}
	for l := range strings.Lines(string(out)) {
		if broken && !strings.HasPrefix(l, "lockorder: ") || strings.Contains(l, "--- FAIL") {
			t.Logf("%s: %s", what, strings.TrimSpace(l))
		}
	}
}
