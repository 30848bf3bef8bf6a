package hosted

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"kiln/kernel/image"
	"kiln/tests/conformance"
)

var kinds = []string{"hello-static", "hello-static-pie", "hello-musl", "hello-pie", "hello-no-pie", "hello-go"}

// execs runs programs of every kind n times each, some of them killed on their way.
func execs(t *testing.T, n int) Result {
	t.Helper()
	cs := []conformance.Case{{Program: "execs"}}
	args := []string{conformance.Path("execs"), fmt.Sprint(n)}
	for _, k := range kinds {
		cs = append(cs, conformance.Case{Program: k})
		args = append(args, conformance.Path(k))
	}
	root, err := conformance.Root(cs)
	if err != nil {
		t.Fatal(err)
	}
	r := Run{Root: root, Limit: 3 * time.Minute, Config: image.Config{Program: args[0], Args: args, Env: conformance.Env}}
	res, err := r.Do()
	res.Output = strings.ReplaceAll(res.Output, "\r\n", "\n")
	if err != nil || res.Status != 0 || strings.Contains(res.Output, "WRONG") {
		t.Fatalf("status %d, %v\n%s\n%s", res.Status, err, tail(res.Output), tail(res.Log))
	}
	return res
}

// A program of any kind replaces one of another, by fork and vfork, from the leader and
// from another thread; nothing of those that are killed on their way stays behind.
func TestProgramsOfEveryKindReplaceEachOtherAndLeaveNothing(t *testing.T) {
	res := execs(t, 3)
	for _, k := range kinds {
		if !strings.Contains(res.Output, conformance.Path(k)+": 3 of 3\n") {
			t.Errorf("%s did not run:\n%s", k, tail(res.Output))
		}
	}
	few := settled()
	res = execs(t, 16)
	many := settled()
	if !strings.Contains(res.Output, "files left open: 0\n") {
		t.Errorf("descriptions leak:\n%s", tail(res.Output))
	}
	// Each machine leaves what it brought up itself; 78 more processes leave nothing.
	if once := few - start0; many-few > once+20 {
		t.Errorf("goroutines: %d at first, %d after 18 processes, %d after 96 more", start0, few, many)
	}
}

var start0 = runtime.NumGoroutine()

// settled counts the goroutines once those on their way out have gone.
func settled() int {
	n := runtime.NumGoroutine()
	for range 50 {
		time.Sleep(20 * time.Millisecond)
		m := runtime.NumGoroutine()
		if m >= n {
			break
		}
		n = m
	}
	return n
}
