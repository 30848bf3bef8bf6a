package net

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// TestConnectionStormAtTheEdge opens and closes connections from many goroutines
// while the gate counts netstack's tables all the time: netstack's table locks must
// never be taken twice on one path.
func TestConnectionStormAtTheEdge(t *testing.T) {
	x, y, _, _ := twoStacks(t, 64<<20, true)
	l := listen(t, x, in4(10, 0, 0, 1, 80), 256)
	stop := time.Now().Add(1500 * time.Millisecond)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for time.Now().Before(stop) {
			if c, err := l.Accept(me); err == nil {
				q := mm.KernelIO([]byte("x"))
				c.Write(me.C, nil, &q, -1)
				c.Release(nil)
			} else {
				time.Sleep(50 * time.Microsecond)
			}
			x.gate.recount(true)
		}
	}()
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var keep []Socket
			for time.Now().Before(stop) {
				c, err := y.Socket(me, unix.AF_INET, unix.SOCK_STREAM, 0)
				if err == nil {
					c.Connect(me, in4(10, 0, 0, 1, 80))
					keep = append(keep, c)
				}
				if err != nil || len(keep) > 30 {
					for _, c := range keep {
						c.Release(nil)
					}
					keep = nil
				}
			}
			for _, c := range keep {
				c.Release(nil)
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		panic("the stacks hang")
	}
	// Both still work: a SYN that was dropped is sent again after a second.
	c, err := connect(t, y, in4(10, 0, 0, 1, 80))
	if err != nil {
		t.Fatal(err)
	}
	c.Release(nil)
}
