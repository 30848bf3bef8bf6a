package task

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/wait"
)

// Threads that sleep, each alone on a CPU, are woken one after the other by somebody outside,
// so that now the one and now the other is the last to block and waits in the machine: none
// misses its call.
func TestWhoWaitsInTheMachineHearsHisOwnCall(t *testing.T) {
	const threads, calls = 3, 300_000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // more than the host has CPUs: anybody may stop anywhere
	m := fake.New(4096)
	m.NumCPU = threads
	r := newRigOn(t, m)
	r.onClone(cloneNr, CloneArgs{Flags: threadFlags}, 0x3000)
	var asleep [threads]struct {
		t    atomic.Pointer[Thread]
		call atomic.Uint32
		done atomic.Uint32
	}
	var n atomic.Int32
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		a := &asleep[n.Add(1)-1]
		a.t.Store(th)
		for heard := uint32(0); heard < calls/threads; {
			if c := a.call.Load(); c != heard {
				heard = c
				a.done.Store(c)
			} else if r := th.Block(hal.NoDeadline, wait.Interruptible); r != wait.Ready {
				t.Errorf("woken by %v", r)
				break
			}
		}
		return 0, nil
	})
	r.sysAt(0x1000, cloneNr)
	r.sysAt(0x1002, cloneNr)
	r.sysAt(0x1004, tryCall)
	r.sysAt(0x1006, unix.SYS_EXIT, 0)
	r.sysAt(0x3000, tryCall)
	r.sysAt(0x3002, unix.SYS_EXIT, 0)
	r.start(0x1000)
	r.eventually("all sleep", func() bool { return n.Load() == threads })
	for i := range uint32(calls) {
		a := &asleep[i/4%threads]
		for a.t.Load() == nil {
			runtime.Gosched()
		}
		c := a.call.Add(1)
		a.t.Load().NotifyEvent(0)
		for end := time.Now().Add(5 * time.Second); a.done.Load() != c; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("call %d was not heard", i)
			}
		}
	}
	r.wait()
}

// Who leaves the wait in the machine unkicked does not take the message of the one who comes
// after him.
func TestAKickIsForOneCPU(t *testing.T) {
	m := fake.New(64)
	m.NumCPU = 2
	s := &newRigOn(t, m).k.Sched
	a, b := &s.cpus[0], &s.cpus[1]
	a.started, b.started = true, true
	kick := func(c *cpu) {
		s.mu.Lock()
		c.kick()
		s.mu.Unlock()
	}
	s.halter = a
	for s.halter == a {
		if s.halt(a) { // until the machine says IdlePark
			t.Fatal("kicked by nobody")
		}
	}
	s.halter = b
	kick(b)
	if a.kicked.Load() || s.halter != nil {
		t.Error("the message for one CPU is another's")
	}
	if !s.halt(b) {
		t.Error("the message is lost")
	}
	for range 100 { // before, during and after the wait
		s.halter = a
		go kick(a)
		if !s.halt(a) {
			<-a.wake
		}
	}
	if a.kicked.Load() || a.asleep.Load() || s.halter != nil {
		t.Error("something is left over")
	}
}
