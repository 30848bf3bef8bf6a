// Clock is a kernel for a machine whose TSC counts 1 GHz exactly (QEMU's -icount
// shift=0): it sees how near to that the base comes (tests/metal/boot_test.go).
package main

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"kiln/kernel/metal"
)

const trueHz = 1e9

var m *metal.Machine

func check(name string, ok bool, args ...any) {
	if ok {
		fmt.Println("ok", name)
	} else {
		fmt.Println("FAIL", name, args)
	}
}

// off is how many parts in a million the rate told to programs is wrong.
func off() float64 {
	hz := math.Exp2(32) * 1e9 / float64(m.TimeParams().Mult)
	return math.Abs(hz-trueHz) / trueHz * 1e6
}

func main() {
	m = metal.New()
	first := math.Abs(float64(m.Features().TSCHz)-trueHz) / trueHz * 1e6
	check("at-boot", first < 1000, first)
	// Readers of the clock while it changes.
	var stop atomic.Bool
	back, done := int64(0), make(chan bool)
	go func() {
		last, wall := m.Nanotime(), time.Now()
		for i := 1; !stop.Load(); i++ {
			if i%1000 == 0 {
				// Under -icount a processor that is busy has a second of instructions before the
				// others, which take more than ten of the host's.
				time.Sleep(time.Microsecond)
			}
			n, w := m.Nanotime(), time.Now()
			back = max(back, last-n, int64(wall.Sub(w)))
			last, wall = n, w
		}
		close(done)
	}()
	time.Sleep(20 * time.Millisecond)
	early := off()
	check("after-20-ms", early < 100, early)
	for range 5 {
		time.Sleep(60 * time.Millisecond)
		off()
	}
	late := off()
	check("after-320-ms", late < 20, late)
	stop.Store(true)
	<-done
	check("never-back", back <= 0, back)
	p := m.TimeParams()
	check("params-go-on", p.MonoBase > 0 && p.MonoBase < m.Nanotime(), p)
	fmt.Printf("ppm at boot %.1f, then %.1f, then %.1f\n", first, early, late)
	fmt.Println("done")
	m.PowerOff()
}
