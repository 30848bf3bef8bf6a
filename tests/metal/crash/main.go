// Crash is a kernel that recovers from its own faults, exercises the runtime
// (timers, preemption, many goroutines, memory), and then dies of a nil dereference
// with a readable report (tests/metal/boot_test.go).
package main

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"kiln/kernel/metal"
)

type node struct{ next *node }

//go:noinline
func try(name string, f func()) {
	defer func() { fmt.Println("recovered", name, recover()) }()
	f()
}

var (
	nilNode *node
	zero    int
	sink    [][]byte
)

func main() {
	m := metal.New()
	fmt.Println("start ns", m.Nanotime())
	m.LastWords([]byte("exit 125\n"), nil)
	try("nil", func() { nilNode.next = nil })
	try("divide", func() { fmt.Println(1 / zero) })
	try("index", func() { _ = sink[3] })
	t := time.Now()
	time.Sleep(10 * time.Millisecond)
	d := time.Since(t)
	fmt.Println("slept", d >= 10*time.Millisecond && d < 100*time.Millisecond)
	if y := time.Now().Year(); y < 2024 || y > 2100 {
		fmt.Println("FAIL year", y)
	}
	// A loop without calls must not hold up the others.
	done := make(chan bool)
	stop := false
	go func() {
		for !stop {
		}
		close(done)
	}()
	time.Sleep(time.Millisecond)
	runtime.GC()
	stop = true
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Add(1)
		go func() { time.Sleep(time.Duration(i%7) * time.Millisecond); wg.Done() }()
	}
	wg.Wait()
	fmt.Println("goroutines ok")
	for range 20 {
		sink = append(sink[:0], make([]byte, 1<<20), []byte(strings.Repeat("x", 100000)))
		runtime.GC()
	}
	sink = nil
	s := m.MemStats()
	fmt.Println("kernel pages", s.KernelPages, "free", s.FreePages, "of", s.TotalPages)
	var wg2 sync.WaitGroup
	for range 20 { // locked threads come and go
		wg2.Add(1)
		go func() { runtime.LockOSThread(); time.Sleep(time.Millisecond); wg2.Done() }()
	}
	wg2.Wait()
	fmt.Println("threads ok")
	nilNode.next = nil
}
