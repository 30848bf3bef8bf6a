package hosted

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"kiln/kernel/image"
	"kiln/tests/conformance"
)

// unit is a program of an image: tests/programs/c/unit.c with arguments.
func unit(name string, args ...string) image.Program {
	e := unitExec(args...)
	return image.Program{Name: name, Exec: e}
}

func unitExec(args ...string) image.Exec {
	path := conformance.Path("unit")
	return image.Exec{Program: path, Args: append([]string{path}, args...)}
}

// several runs programs to the machine's end.
func several(t *testing.T, programs ...image.Program) Result {
	t.Helper()
	root, err := conformance.Root([]conformance.Case{{Program: "unit"}})
	if err != nil {
		t.Fatal(err)
	}
	r := &Run{Root: root, Memory: 64 << 20, Config: image.Config{Name: "several", LogLevel: "info", Programs: programs}}
	res, err := r.Do()
	if err != nil {
		t.Fatalf("%v\noutput:\n%s\nkernel:\n%s", err, tail(res.Output), tail(res.Log))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output:\n%s\nkernel:\n%s", tail(res.Output), tail(res.Log))
		}
	})
	return res
}

func wantStatus(t *testing.T, res Result, status int) {
	t.Helper()
	if res.Status != status {
		t.Errorf("status %d, not %d", res.Status, status)
	}
}

// inOrder wants texts in the log in this order, each matched as a regular expression.
func inOrder(t *testing.T, log string, want ...string) {
	t.Helper()
	for _, w := range want {
		loc := regexp.MustCompile(w).FindStringIndex(log)
		if loc == nil {
			t.Errorf("no %q in its place", w)
			return
		}
		log = log[loc[1]:]
	}
}

func TestSeveralProgramsStartInOrderAndStopInReverse(t *testing.T) {
	first, main, last := unit("first", "linger", "first"), unit("main", "touch", "/tmp/x", "100", "0"), unit("last", "linger", "last")
	first.StopSignal = "QUIT"
	main.Essential, main.After = true, []image.After{{Program: "last"}}
	last.After = []image.After{{Program: "first", Is: image.IsHealthy}}
	first.Health = &image.Health{Command: unitExec("exists", "/proc/1/stat").Args}
	res := several(t, main, last, first)
	wantStatus(t, res, 0)
	inOrder(t, res.Log, `first: started as process \d`, "first: healthy", `last: started`, `main: started`, "main: ended with status 0",
		"last: stopping it by SIGTERM", "last: ended with status 0", "first: stopping it by SIGQUIT", "first: ended with status 0")
	inOrder(t, res.Output, "last got signal 15", "first got signal 3")
}

func TestEachOfSeveralProgramsHasItsOwnSurroundings(t *testing.T) {
	a, b := unit("a", "who"), unit("b", "who")
	a.Env, a.WorkDir, a.User = []string{"X=mine"}, "/tmp", &image.User{UID: 33, GID: 33}
	res := several(t, a, b)
	wantStatus(t, res, 0)
	for _, w := range []string{"who parent 1, leads session 1 group 1, uid 33, X=mine, in /tmp", "who parent 1, leads session 1 group 1, uid 0, X=, in /",
		"who read gives 0"} {
		if !strings.Contains(res.Output, w) {
			t.Errorf("no %q", w)
		}
	}
}

func TestACrashedProgramIsRestartedWithBackOff(t *testing.T) {
	c := unit("c", "count", "/tmp/runs", "4", "7")
	c.Restart, c.Backoff = image.RestartOnFailure, image.Duration(50*time.Millisecond)
	main := unit("main", "touch", "/tmp/x", "900", "0")
	main.Essential = true
	res := several(t, c, main)
	wantStatus(t, res, 0)
	inOrder(t, res.Output, "run 1 of process 1", "run 2", "run 3", "run 4", "count lingers", "count got signal 15")
	inOrder(t, res.Log, "c: ended with status 7: restart 1 in 50ms", "restart 2 in 100ms", "restart 3 in 200ms", "c: stopping")
}

func TestAProgramThatFailsForGoodGivesTheMachineItsStatus(t *testing.T) {
	c := unit("c", "say", "no", "7")
	c.Restart, c.MaxRestarts, c.Backoff = image.RestartOnFailure, 2, image.Duration(time.Millisecond)
	main := unit("main", "linger", "main")
	main.Essential = true
	res := several(t, main, c)
	wantStatus(t, res, 7)
	if n := strings.Count(res.Output, "say no"); n != 3 {
		t.Errorf("it ran %d times", n)
	}
	inOrder(t, res.Log, "c: restarted 2 times in a row", "c: ended with status 7: it has failed", "main: stopping")
}

func TestAMissingProgramIsNamed(t *testing.T) {
	c := unit("c")
	c.Program, c.Args = "/bin/nothing", nil
	res := several(t, c)
	wantStatus(t, res, 127)
	inOrder(t, res.Log, "c: /bin/nothing cannot be started: no such file or directory")
}

func TestAnUnhealthyServerIsRestarted(t *testing.T) {
	web := unit("web", "serve", "8080", "/tmp/sick")
	web.Health = &image.Health{HTTP: &image.HealthHTTP{Port: 8080}, Interval: image.Duration(50 * time.Millisecond), Retries: 2}
	port := unit("port", "serve", "8081")
	port.Health = &image.Health{TCP: 8081}
	// It makes the server sick when both are healthy, for some time.
	sick := unit("sick", "touch", "/tmp/sick", "0", "700")
	sick.Essential, sick.After = true, []image.After{{Program: "web", Is: image.IsHealthy}, {Program: "port", Is: image.IsHealthy}}
	res := several(t, web, port, sick)
	wantStatus(t, res, 0)
	inOrder(t, res.Log, "web: healthy", "sick: started", `web: health check 1 of 2 failed: GET / gives status 503`,
		`web: unhealthy \(GET / gives status 503\): it is restarted`, "web: ended with SIGTERM: restart 1", `web: started as process`)

	web.Health.IfUnhealthy = image.UnhealthyEnd
	sick.Args = unitExec("touch", "/tmp/sick", "0", "60000").Args
	res = several(t, web, port, sick)
	wantStatus(t, res, 143)
	inOrder(t, res.Log, "web: unhealthy .*: the machine ends")
}

func TestPipelinesJoinProgramsAndTellEveryStatus(t *testing.T) {
	p := image.Program{Name: "p", Pipeline: []image.Exec{unitExec("say", "hot", "3"), unitExec("copy", "<", "4"), unitExec("copy", "[")}}
	res := several(t, p)
	wantStatus(t, res, 0)
	if !strings.Contains(res.Output, "[<say hot") {
		t.Errorf("output %q", res.Output)
	}
	inOrder(t, res.Log, `p: started as processes \d+ \| \d+ \| \d+`, `p: ended with status 3 \| status 4 \| status 0`)
	p.PipeFail = true
	wantStatus(t, several(t, p), 4)
}

func TestOrphansAreAdoptedAndReapedByTheKernelAsProcess1(t *testing.T) {
	main := unit("main", "orphans", "20")
	main.Essential = true
	res := several(t, main, unit("other", "linger", "other"))
	wantStatus(t, res, 0)
	inOrder(t, res.Output, "orphans 20 children of process 1, 0 zombies, my parent is 1", `orphans kill\(1, 0\) gives 0, a child with wait -1`)
}

func TestWhatAProgramLeavesBehindEndsWithIt(t *testing.T) {
	left := unit("left", "leave", "0")
	look := unit("look", "kids", "50")
	look.Essential, look.After = true, []image.After{{Program: "left", Is: image.IsEnded}}
	res := several(t, left, look)
	wantStatus(t, res, 0)
	// The sleeper is process 1 alone.
	inOrder(t, res.Output, "kids 1 alive, 0 zombies")
}

func TestADeafProgramIsKilledAfterItsPatience(t *testing.T) {
	d := unit("d", "deaf", "d")
	d.Patience = image.Duration(300 * time.Millisecond)
	main := unit("main", "touch", "/tmp/x", "100", "0")
	main.Essential = true
	res := several(t, d, main)
	wantStatus(t, res, 0)
	inOrder(t, res.Log, "d: stopping it by SIGTERM", "d: it did not end within 300ms of SIGTERM: killed", "d: ended with SIGKILL")
}

func TestOneOfSeveralProgramsIsKilledWhenMemoryEndsAndTheOthersLive(t *testing.T) {
	// It eats in its first run only; main ends when the second one runs.
	eat, web, main := unit("eat", "eat", "/tmp/runs"), unit("web", "serve", "8080"), unit("main", "until", "/tmp/runs", "2")
	eat.Restart, eat.Backoff = image.RestartOnFailure, image.Duration(10*time.Millisecond)
	web.Health = &image.Health{TCP: 8080}
	main.Essential = true
	res := several(t, eat, web, main)
	wantStatus(t, res, 0)
	inOrder(t, res.Log, "out of memory: killed process", "eat: ended with SIGKILL: restart 1", "main: ended with status 0",
		"web: stopping it by SIGTERM", "web: ended with SIGTERM", "eat: stopping it by SIGTERM")
}
