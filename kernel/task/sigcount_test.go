package task

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestQueuedSignalsAreCharged: what a queue holds beyond its first signal is the budget's to
// refuse, and is given back.
func TestQueuedSignalsAreCharged(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		const sig, room = firstRT + 4, 3
		th.SetMask(Set(sig))
		b := r.mem.Budget()
		was, user := b.Used(), th.process.user.Load()
		b.SetLimit(was + room*queuedCost)
		n := 0
		for ; n < 20 && th.Queue(SignalInfo{Signo: sig, Code: SIQueue}) == nil; n++ {
		}
		if n != room+1 || user.signals.Load() != room+1 {
			t.Errorf("%d signals fit, %d counted, want %d", n, user.signals.Load(), room+1)
		}
		for range n {
			if _, ok := th.TakeSignal(Set(sig)); !ok {
				t.Error("a signal is lost")
			}
		}
		if b.Used() != was || user.signals.Load() != 0 {
			t.Errorf("%d bytes and %d signals left", b.Used()-was, user.signals.Load())
		}
		b.SetLimit(was)
		if _, err := th.CreateTimer(TimerArgs{Clock: 1, Notify: sigevNone}); err != unix.EAGAIN {
			t.Errorf("a timer beyond the budget: %v", err)
		}
		if user.signals.Load() != 0 {
			t.Error("a timer that was not made counts")
		}
	})
}

// TestSignalToAnEndingThreadCountsForNobody: nobody would take it from the queue again.
func TestSignalToAnEndingThreadCountsForNobody(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		o := &Thread{k: th.k, process: th.process, exiting: true}
		o.SendSignal(SignalInfo{Signo: firstRT + 4, Code: SITkill})
		if n := th.process.user.Load().signals.Load(); n != 0 || o.pending.head != nil {
			t.Errorf("%d signals count", n)
		}
	})
}
