package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/tests/vmtest"
)

// several bakes an image of programs that are all tests/programs/c/unit.c; doc is the
// manifest's list of them.
func several(t *testing.T, doc string) string {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(built(t, "unit"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"unit": b,
		"manifest.yaml": []byte("name: several\nlog_level: info\nnetwork: {mode: none}\nfiles: [{path: /bin/unit, from: unit, mode: 0755}]\nprograms:\n" +
			strings.ReplaceAll(strings.TrimPrefix(doc, "\n"), "\t", "  ")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(dir, "several.img")
	if out, err := exec.Command(pack, "build", dir, "-o", img).CombinedOutput(); err != nil {
		t.Fatalf("pack build: %v\n%s", err, out)
	}
	return img
}

// order wants patterns on the console, one behind the other.
func order(t *testing.T, console string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		loc := regexp.MustCompile(p).FindStringIndex(console)
		if loc == nil {
			t.Errorf("no %q in its place", p)
			return
		}
		console = console[loc[1]:]
	}
}

func TestSeveralProgramsLiveAndEndInOrder(t *testing.T) {
	img := several(t, `
- {name: main, program: /bin/unit, args: [until, /tmp/runs, "3"], essential: true, after: {orphans: ended, pipe: ended, base: healthy}}
- {name: base, program: /bin/unit, args: [linger, base], stop_signal: QUIT, health: {command: [/bin/unit, exists, /proc/1/stat]}}
- {name: crash, program: /bin/unit, args: [count, /tmp/runs, "3", "7"], restart: on-failure, backoff: 50ms, after: {base: healthy}}
- {name: deaf, program: /bin/unit, args: [deaf, deaf], patience: 500ms}
- {name: orphans, program: /bin/unit, args: [orphans, "20"], after: {base: healthy}}
- name: pipe
	pipeline:
	- {program: /bin/unit, args: [say, through, "3"]}
	- {program: /bin/unit, args: [copy, "<", "4"]}
	- {program: /bin/unit, args: [copy, "["]}
`)
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, bootLimit, img, m.flags)
			if status != 0 {
				t.Errorf("status %d", status)
			}
			// What the kernel says may come between a text and the end of its line, if these are two writes.
			has(t, out, "[<say through", "orphans 20 children of process 1, 0 zombies, my parent is 1\n", "count run 3 of process 1\n")
			order(t, out, `base: started as process`, `base: healthy`, `orphans: started`, `orphans: ended with status 0`, `main: started`)
			order(t, out, `base: healthy`, `crash: ended with status 7: restart 1 in 50ms`, `crash: ended with status 7: restart 2 in 100ms`,
				`main: ended with status 0`)
			order(t, out, `pipe: started as processes \d+ \| \d+ \| \d+`, `pipe: ended with status 3 \| status 4 \| status 0\n`)
			// base and deaf started first, in this order, and end last.
			order(t, out, `main: ended`, `crash: stopping it by SIGTERM`, `crash: ended with status 0`, `deaf: stopping it by SIGTERM`,
				`deaf: it did not end within 500ms of SIGTERM: killed`, `deaf: ended with SIGKILL`, `base: stopping it by SIGQUIT`, `base got signal 3`)
		})
	}
}

func TestAnUnhealthyServerIsRestartedAndOneThatFailsForGoodEndsTheMachine(t *testing.T) {
	img := several(t, `
- name: web
	program: /bin/unit
	args: [serve, "8080", /tmp/sick]
	restart: on-failure
	health: {http: {port: 8080}, interval: 100ms, retries: 2, grace: 1500ms}
- {name: port, program: /bin/unit, args: [serve, "8081"], health: {tcp: 8081}}
- {name: sick, program: /bin/unit, args: [touch, /tmp/sick, "0", "1500"], after: {web: healthy, port: healthy}}
- {name: main, program: /bin/unit, args: [linger, main, "5"], essential: true, after: {sick: started}}
`)
	// Sick for good, it fails after its restarts.
	out, status := run(t, bootLimit, img, []string{"--append", "kiln.program.web.max_restarts=2"})
	if status != 143 {
		t.Errorf("status %d", status)
	}
	order(t, out, "port: healthy", `web: health check 1 of 2 failed: GET / gives status 503`, `web: unhealthy \(GET / gives status 503\): it is restarted`,
		"web: ended with SIGTERM: restart 1 in 100ms", "restart 2 in 200ms", "web: restarted 2 times in a row", "web: ended with SIGTERM: it has failed",
		"main: stopping", "main got signal 15")
	// What the kernel says of a configuration that is not right is one sentence.
	out, status = vmtest.Run(t, bootLimit, img, "--net", "none", "--append", "kiln.program.web.if_failed=cry")
	if status != 125 || !strings.Contains(out, `programs: web: if_failed "cry" must be end or ignore`) {
		t.Errorf("a wrong command line: status %d", status)
	}
}

func TestPackRunPassesArgumentsAndSignalsToTheEssentialProgram(t *testing.T) {
	img := several(t, `
- {name: other, program: /bin/unit, args: [linger, other]}
- {name: main, program: /bin/unit, args: [linger, main], essential: true, after: {other: started}}
`)
	m := vmtest.Boot(t, img, "--net", "none", "--", "linger", "args", "9")
	tailIfFailed(t, m.Console)
	m.WaitFor(t, "args lingers", bootLimit)
	m.WaitFor(t, "other lingers", bootLimit)
	m.Signal(syscall.SIGUSR1)
	if status := m.Status(t, 20*time.Second); status != 9 {
		t.Errorf("status %d", status)
	}
	order(t, m.Console(), "args got signal 10", "main: ended with status 9", "other got signal 15")
	checkAlive(t, m.Console())

	m = vmtest.Boot(t, img, "--net", "none")
	tailIfFailed(t, m.Console)
	m.WaitFor(t, "main lingers", bootLimit)
	m.WaitFor(t, "other lingers", bootLimit)
	if status := m.Stop(t, 20*time.Second); status != 0 {
		t.Errorf("status %d", status)
	}
	order(t, m.Console(), "main: stopping it by SIGTERM", "main got signal 15", "other: stopping it by SIGTERM", "other got signal 15")
	checkAlive(t, m.Console())
}

func TestMemoryThatEndsKillsOneOfSeveralPrograms(t *testing.T) {
	img := several(t, `
- {name: eat, program: /bin/unit, args: [eat, /tmp/runs], restart: on-failure}
- {name: web, program: /bin/unit, args: [serve, "8080"], health: {tcp: 8080}}
- {name: main, program: /bin/unit, args: [until, /tmp/runs, "2"], essential: true}
`)
	out, status := run(t, bootLimit, img, []string{"-m", "96M"})
	if status != 0 {
		t.Errorf("status %d", status)
	}
	order(t, out, "out of memory: killed process", "eat: ended with SIGKILL: restart 1", "main: ended with status 0", "web: stopping it by SIGTERM")
}
