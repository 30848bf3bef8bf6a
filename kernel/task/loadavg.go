package task

import (
	"sync"

	"kiln/kernel/timer"
)

// loadAvg is the averages over 1, 5 and 15 minutes of the threads that run or would run,
// in 2048ths. As Linux does (kernel/sched/loadavg.c), they move every five seconds, by
// fixed factors.
type loadAvg struct {
	mu    sync.Mutex
	avg   [3]uint64
	timer timer.Timer
	next  int64
}

// LoadShift is how many bits of a load average are behind the point.
const LoadShift = 11

const (
	loadStep = 5_000_000_000 // ns
	loadOne  = 1 << LoadShift
)

// loadDecay is 2048 × e^(-5 s/span).
var loadDecay = [3]uint64{1884, 2014, 2037}

// step is calc_load: a rising average is rounded up.
func (l *loadAvg) step(active uint64) {
	active *= loadOne
	l.mu.Lock()
	for i, k := range loadDecay {
		v := l.avg[i]*k + active*(loadOne-k)
		if active >= l.avg[i] {
			v += loadOne - 1
		}
		l.avg[i] = v / loadOne
	}
	l.mu.Unlock()
}

// SampleLoad starts the averages: a timer takes a sample every five seconds.
func (k *Kernel) SampleLoad() {
	l := &k.load
	l.next = k.Timers.Now() + loadStep
	l.timer.Init(func() {
		running, queued, _ := k.Sched.Load()
		l.step(uint64(running + queued))
		for now := k.Timers.Now(); l.next <= now; {
			l.next += loadStep
		}
		k.Timers.Arm(&l.timer, l.next)
	})
	k.Timers.Arm(&l.timer, l.next)
}

// LoadAverages are the three averages, with LoadShift bits behind the point.
func (k *Kernel) LoadAverages() [3]uint64 {
	k.load.mu.Lock()
	defer k.load.mu.Unlock()
	return k.load.avg
}
