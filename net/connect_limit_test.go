package net

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

// An attempt to connect to who does not answer ends when TCP_USER_TIMEOUT or TCP_SYNCNT says, and
// not when netstack has had enough.
func TestAnAttemptToConnectEndsInItsTime(t *testing.T) {
	x, y, dx, _ := twoStacks(t, testRAM, false)
	listen(t, y, in4(10, 0, 0, 2, 80), 1)
	dx.mu.Lock()
	dx.lose = func(f []byte) bool { return f[12] == 8 && f[13] == 0 }
	dx.mu.Unlock()
	c := sock(t, x, unix.AF_INET, unix.SOCK_STREAM, 0)
	set(t, c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1)
	start := time.Now()
	if err := c.Connect(me, in4(10, 0, 0, 2, 80)); err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	for c.Readiness(waiter.AllEvents)&waiter.EventErr == 0 && time.Since(start) < 5*time.Second {
		time.Sleep(10 * time.Millisecond)
	}
	if d := time.Since(start); d < time.Second || d > 4*time.Second {
		t.Errorf("it ended after %v", d)
	}
	if b, err := c.GetOption(me, unix.SOL_SOCKET, unix.SO_ERROR, 4); err != nil || binary.LittleEndian.Uint32(b) != uint32(unix.ETIMEDOUT) {
		t.Errorf("SO_ERROR is %v, %v", b, err)
	}
	if r := c.Readiness(waiter.AllEvents); r&waiter.EventErr != 0 {
		t.Errorf("ready for %#x when that was told", r)
	}
	c.Release(nil)
	for _, l := range []struct {
		repeats  int
		patience time.Duration
		want     time.Duration
	}{
		{0, 0, 0}, {1, 0, 3 * time.Second}, {6, 0, 127 * time.Second}, {8, 0, 367 * time.Second},
		{0, time.Millisecond, time.Second}, {0, 30 * time.Second, 30 * time.Second}, {2, 30 * time.Second, 7 * time.Second},
		{6, 30 * time.Second, 30 * time.Second},
	} {
		if d := connectLimit(l.repeats, l.patience); d != l.want {
			t.Errorf("%d repeats and %v of patience are %v, not %v", l.repeats, l.patience, d, l.want)
		}
	}
}
