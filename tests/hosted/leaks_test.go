package hosted

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"kiln/tests/conformance"
)

// Children that come and go leave no frame, no description and no goroutine behind,
// whatever they were doing when they were killed. The program compares the kernel's own
// counts. KILN_ACCEPT=1 asks for the full numbers.
func TestProcessesLeaveNothingBehind(t *testing.T) {
	forks, kills := "100", "150"
	if os.Getenv("KILN_ACCEPT") != "" {
		forks, kills = "10000", "20000"
	}
	for _, cpus := range []int{1, 4} {
		for _, args := range [][]string{{"forks", forks}, {"kills", kills, fmt.Sprint(cpus)}} {
			t.Run(fmt.Sprint(args[0], " on ", cpus), func(t *testing.T) { runClean(t, cpus, "leaks", args...) })
		}
	}
}

// runClean runs a program that says "nothing leaked" and ends with 0 if all is well.
func runClean(t *testing.T, cpus int, program string, args ...string) {
	t.Helper()
	r := start(t, conformance.Case{Program: program, Args: args})
	r.CPUs, r.Limit = cpus, time.Hour
	if os.Getenv("KILN_ACCEPT") == "" {
		r.Limit = 3 * time.Minute
	}
	res, err := r.Do()
	if err != nil || res.Status != 0 || !strings.Contains(res.Output, "nothing leaked") {
		t.Fatalf("status %d, %v\n%s\nkernel:\n%s", res.Status, err, tail(res.Output), tail(res.Log))
	}
	t.Log(tail(res.Output))
}

// The soak of tests/boot, which checks itself, on the hosted kernel.
func TestSoak(t *testing.T) {
	seconds := "4"
	if os.Getenv("KILN_ACCEPT") != "" {
		seconds = "600"
	}
	runClean(t, 4, "soak", seconds, fmt.Sprint(time.Now().UnixNano()%1e9))
}

// Connections over the loopback lose no byte and no wake-up, however they are used and ended.
func TestStreamsWithinTheMachine(t *testing.T) {
	n, machines := "40", []int{1, 4}
	if os.Getenv("KILN_ACCEPT") != "" {
		n = "5000"
	} else if raceDetector {
		machines = machines[1:]
	}
	for _, cpus := range machines {
		t.Run(fmt.Sprint("on ", cpus), func(t *testing.T) {
			runClean(t, cpus, "streams", n, fmt.Sprint(time.Now().UnixNano()%1e9))
		})
	}
}
