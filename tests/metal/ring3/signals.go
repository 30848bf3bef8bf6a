package main

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

//go:noescape
func waitUnlooking(ready, sent, word *uint32, timeout *[2]int64) int64

func sigprocmask(how uintptr, set *uint64) {
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, how, uintptr(unsafe.Pointer(set)), 0, 8, 0, 0)
}

// lateSignal: a signal comes when its thread is on its way into a call that waits and does
// not look any more. The call ends at once, as on Linux.
func lateSignal() {
	if m.CPUs() < 2 {
		return
	}
	interrupted, late := 0, 0
	for range 40 {
		var w struct{ ready, sent, word, tid uint32 }
		limit := [2]int64{0, 300e6}
		done := make(chan int64, 1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			w.tid = uint32(syscall.Gettid())
			// The runtime's own signal, by which it wants the P back, would end the wait too.
			urg := uint64(1) << (syscall.SIGURG - 1)
			sigprocmask(0, &urg)
			r := waitUnlooking(&w.ready, &w.sent, &w.word, &limit)
			sigprocmask(1, &urg)
			done <- r
		}()
		// We run meanwhile: the other is on another CPU.
		for end := time.Now().Add(time.Second); atomic.LoadUint32(&w.ready) == 0 && time.Now().Before(end); {
		}
		if atomic.LoadUint32(&w.ready) != 0 {
			syscall.RawSyscall(syscall.SYS_TGKILL, 1, uintptr(w.tid), uintptr(syscall.SIGWINCH))
			atomic.StoreUint32(&w.sent, 1)
		}
		switch <-done {
		case -int64(syscall.EINTR):
			interrupted++
		case -int64(syscall.ETIMEDOUT):
			late++
		}
		if interrupted+late == 5 {
			break
		}
	}
	check("late-signal", interrupted > 0 && late == 0, interrupted, late)
}
