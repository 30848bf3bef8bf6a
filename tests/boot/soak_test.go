package boot

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Children that come and go, and children that are killed in whatever call they are, leave
// no frame, no description and no goroutine behind: the program compares the kernel's
// counts (/proc/kiln/counts).
func TestProcessesLeaveNothingBehind(t *testing.T) {
	img := program(t, "leaks")
	for _, c := range []struct {
		what string
		cpus int
		n    int
	}{
		{"forks", 1, size(1000, 10000)}, {"forks", 4, size(200, 10000)},
		{"kills", 1, size(150, 10000)}, {"kills", 2, size(150, 10000)}, {"kills", 4, size(0, 10000)},
	} {
		if c.n == 0 {
			continue
		}
		t.Run(fmt.Sprintf("%d %s on %d", c.n, c.what, c.cpus), func(t *testing.T) {
			out, status := run(t, time.Duration(size(300, 7200))*time.Second, img, []string{"-m", "256M", "-c", fmt.Sprint(c.cpus)},
				c.what, fmt.Sprint(c.n), fmt.Sprint(time.Now().UnixNano()%1e9))
			if status != 0 || !strings.Contains(out, "nothing leaked") {
				t.Errorf("status %d\n%s", status, tail(out))
			}
		})
	}
}

// A mixed load of workers that check what they do, with children killed at random, on a
// machine whose timers fire at random: nothing hangs, is lost, or leaks.
func TestSoak(t *testing.T) {
	img := program(t, "soak")
	cpus, seconds := size(2, 4), size(20, 1200)
	for _, hz := range []int{0, 2000, 20000}[:size(2, 3)] {
		if hz == 0 && accept {
			continue
		}
		took := seconds
		if hz == 0 || hz == 20000 {
			took = seconds / 4
		}
		t.Run(fmt.Sprintf("%d s on %d CPUs, %d needless interrupts a second", took, cpus, hz), func(t *testing.T) {
			flags := []string{"-m", "256M", "-c", fmt.Sprint(cpus)}
			if hz > 0 {
				flags = append(flags, "--append", fmt.Sprintf("kiln.debug.timer=%d", hz))
			}
			out, status := run(t, time.Duration(3*took+300)*time.Second, img, flags, fmt.Sprint(took), fmt.Sprint(time.Now().UnixNano()%1e9))
			if status != 0 || !strings.Contains(out, "nothing leaked") {
				t.Errorf("status %d\n%s", status, tail(out))
			}
			t.Log(tail(out))
		})
	}
}
