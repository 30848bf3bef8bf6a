package core

import (
	"math/rand/v2"
	"testing"
)

// apicTimer models a local APIC's timer and a TSC on a processor that a host takes away, at
// any instruction.
type apicTimer struct {
	rng           *rand.Rand
	now           uint64 // ns
	hz, tscHz     uint64
	start         uint64
	often         int // of so many instructions, one is late
	stall, budget uint64
}

func (m *apicTimer) step() {
	m.now += 20 + m.rng.Uint64N(80)
	if m.rng.IntN(m.often) == 0 && m.budget > 0 {
		m.budget--
		m.now += m.rng.Uint64N(m.stall)
	}
}

func (m *apicTimer) tsc() uint64 { m.step(); return m.now * (m.tscHz / 1e6) / 1e3 }

func (m *apicTimer) count() uint32 {
	m.step()
	return ^uint32(0) - uint32(min((m.now-m.start)*(m.hz/1e6)/1e3, 1<<32-1))
}

func (m *apicTimer) read() Reading {
	t := m.tsc()
	n := m.count()
	return Reading{n, t, m.tsc()}
}

// once is a measurement over half a millisecond, as metal's.
func (m *apicTimer) once() (uint64, bool) {
	m.start = m.now
	a := Sharpest(m.read)
	for m.tsc()-a.T1 < m.tscHz/2000 {
	}
	return DownRate(a, Sharpest(m.read), m.tscHz)
}

func TestARateIsRightOnAProcessorThatIsTakenAway(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	good := 0
	for range 4000 {
		m := &apicTimer{rng: r, now: r.Uint64N(1e12), hz: []uint64{25e6, 1e9, 2e8}[r.IntN(3)], tscHz: 24e8, often: 1 + r.IntN(60), stall: 1 << r.IntN(26), budget: r.Uint64N(40)}
		rate, ok := m.once()
		if !ok {
			continue
		}
		good++
		if rate < m.hz*15/16 || rate > m.hz*17/16 {
			t.Fatalf("%d Hz of %d", rate, m.hz)
		}
	}
	if good < 2000 {
		t.Errorf("%d of 4000 measurements are good", good)
	}
}

func TestARateIsRefusedWhereNothingIsKnown(t *testing.T) {
	for what, r := range map[string][2]Reading{
		"a stall in the first pair": {{^uint32(0), 0, 7e6}, {^uint32(0) - 5e5, 72e5, 72e5 + 100}},
		"a stall in the second":     {{^uint32(0), 0, 100}, {^uint32(0) - 5e5, 12e5, 8e6}},
		"a counter that has ended":  {{^uint32(0), 0, 100}, {0, 12e9, 12e9 + 100}},
		"a counter that stands":     {{^uint32(0), 0, 100}, {^uint32(0), 12e5, 12e5 + 100}},
		"no time":                   {{^uint32(0), 5, 5}, {1, 5, 5}},
	} {
		if rate, ok := DownRate(r[0], r[1], 24e8); ok {
			t.Errorf("%s: %d Hz", what, rate)
		}
	}
	if rate, ok := DownRate(Reading{^uint32(0), 0, 100}, Reading{^uint32(0) - 5e5, 12e5, 12e5 + 100}, 24e8); !ok || rate != 1e9 {
		t.Errorf("%d Hz, %v", rate, ok)
	}
}
