package task

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// CPU times do not run back while the tick, on another CPU, charges the thread.
func TestCPUTimeDoesNotRunBack(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		r.m.UseHostClock()
		s := &th.k.Sched
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for !stop.Load() {
				s.mu.Lock()
				s.charge(s.cpus[th.e.cpu].q, s.m.Nanotime())
				s.mu.Unlock()
				runtime.Gosched()
			}
		})
		for what, read := range map[string]func() int64{"the process's": th.process.CPUTime, "the thread's": th.CPUTime, "its own": th.ownTime,
			"its usage": func() int64 { u := th.process.Usage(); return u.User + u.System }} {
			last, back := read(), 0
			for range 20000 {
				now := read()
				if now < last {
					back++
				}
				last = now
			}
			if back != 0 || last == 0 {
				t.Errorf("%s ran back %d times, to %d ns", what, back, last)
			}
		}
		stop.Store(true)
		wg.Wait()
	})
}

// A long call among the samples makes for more system time than there was; what was told of
// user time stays told.
func TestUserTimeDoesNotRunBackAfterALongCall(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		r.m.UseHostClock()
		for what, usage := range map[string]func() Usage{"the process": th.process.Usage, "the thread": th.Usage} {
			before := th.sysTime.Load()
			u := usage()
			for u.User == 0 {
				u = usage()
			}
			for _, add := range []int64{1 << 50, -1 << 50, 1 << 50} {
				th.sysTime.Add(add)
				for range 100 {
					v := usage()
					if v.User < u.User || v.System < u.System {
						t.Fatalf("%s: user %d, system %d after %d and %d", what, v.User, v.System, u.User, u.System)
					}
					u = v
				}
			}
			if u.System == 0 {
				t.Errorf("%s: no system time at all", what)
			}
			th.sysTime.Store(before)
		}
	})
}
