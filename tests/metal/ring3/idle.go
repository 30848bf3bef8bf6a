package main

import (
	"runtime"
	"syscall"
	"time"
)

// napper: the thread that was the last to nap has ended when another idles.
func napper() {
	for range 50 {
		ended := make(chan bool)
		go func() {
			defer close(ended)
			runtime.LockOSThread() // and ends with its goroutine
			t := syscall.Timespec{Nsec: 1}
			syscall.Nanosleep(&t, nil)
		}()
		<-ended
		for end := time.Now().Add(200 * time.Microsecond); time.Now().Before(end); {
		}
		m.Idle()
	}
	check("napper-ended", true)
}
