// Exhaust is a kernel that takes every frame AllocFrames gives, and then needs memory
// for itself: the reserve must carry the Go heap (tests/metal/boot_test.go).
package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"kiln/kernel/hal"
	"kiln/kernel/metal"
)

var (
	m        *metal.Machine
	pressure atomic.Int64
	sink     []byte
)

func check(name string, ok bool, args ...any) {
	if ok {
		fmt.Println("ok", name)
	} else {
		fmt.Println("FAIL", name, args)
	}
}

// eat takes all memory that is to be had, largest blocks first, and leaves the list of
// it in the frames themselves.
func eat(flags hal.AllocFlags) (first hal.PFN, orders [11]int) {
	for o := 10; o >= 0; o-- {
		for {
			f, err := m.AllocFrames(uint(o), flags)
			if err != nil {
				break
			}
			b := m.Frame(f)
			for i := range 8 {
				b[i] = byte(uint64(first) >> (8 * i))
			}
			b[8] = byte(o)
			first = f
			orders[o]++
		}
	}
	return
}

func release(f hal.PFN) {
	for f != 0 {
		b, next := m.Frame(f), hal.PFN(0)
		for i := range 8 {
			next |= hal.PFN(b[i]) << (8 * i)
		}
		m.FreeFrames(f, uint(b[8]))
		f = next
	}
}

// grow keeps live MiB and makes churn MiB of garbage.
func grow(live, churn int) {
	keep := make([][]byte, 0, live)
	for range live {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	for range churn {
		sink = make([]byte, 1<<20)
		sink[len(sink)-1] = 1
	}
	runtime.KeepAlive(keep)
}

// called says whether the pressure function is called more often than before.
func called(before int64) bool {
	for i := 0; i < 400 && pressure.Load() <= before; i++ {
		time.Sleep(5 * time.Millisecond)
	}
	return pressure.Load() > before
}

func main() {
	m = metal.New()
	m.OnPressure(func() { pressure.Add(1) })
	st := m.MemStats()
	fmt.Println("total", st.TotalPages, "free", st.FreePages, "low", st.LowWatermark, "reserve", st.Reserve, "kernel", st.KernelPages)
	check("reserve-at-least", st.Reserve >= min(1024, st.TotalPages/6), st.Reserve)
	for round := range 3 {
		before := pressure.Load()
		list, orders := eat(0)
		check("pressure-called", called(before), round)
		full := m.MemStats()
		// On another CPU the kernel takes pages for itself meanwhile.
		own := uint64(64 * (m.CPUs() - 1))
		check("stops-at-the-reserve", full.FreePages+own >= full.Reserve && full.FreePages < full.Reserve+16, full)
		_, err := m.AllocFrames(0, 0)
		check("refused", err == hal.ErrNoMemory, err)
		f, err := m.AllocFrames(0, hal.AllocReserve|hal.AllocZero)
		check("reserve-flag", err == nil, err)
		m.FreeFrames(f, 0)
		as, err := m.NewAddressSpace()
		check("no-table-for-programs", err != nil || as == nil, err)
		grow(4, 48)
		now := m.MemStats()
		fmt.Println("blocks", orders, "free at the end", now.FreePages, "reserve", now.Reserve, "kernel", now.KernelPages)
		check("kernel-lives", now.FreePages > 0, now)
		release(list)
		runtime.GC()
	}
	// What is left of the reserve can be used up, too: then the pressure line calls
	// again, before the kernel itself has nothing.
	list, _ := eat(0)
	time.Sleep(5 * time.Millisecond)
	before := pressure.Load()
	var got []hal.PFN
	for m.MemStats().FreePages > 200 {
		f, err := m.AllocFrames(0, hal.AllocReserve)
		if err != nil {
			break
		}
		got = append(got, f)
	}
	check("pressure-again", called(before), before)
	for _, f := range got {
		m.FreeFrames(f, 0)
	}
	release(list)
	fmt.Println("done")
	m.PowerOff()
}
