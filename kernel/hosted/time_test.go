package hosted

import (
	"math/rand/v2"
	"testing"
)

// The host takes the processor away for milliseconds, anywhere: a rate is right, or there is
// none.
func TestTheTSCsRateOnABusyHost(t *testing.T) {
	const hz = 2_300_000_000
	r := rand.New(rand.NewPCG(2, 9))
	now, often := uint64(0), 1 // ns
	step := func() {
		now += 20 + r.Uint64N(60)
		if r.IntN(often) == 0 {
			now += r.Uint64N(4e6)
		}
	}
	nanos := func() int64 { step(); return int64(now) }
	tsc := func() uint64 { step(); return now * (hz / 1e6) / 1e3 }
	found := 0
	for range 3000 {
		often = 1 + r.IntN(40)
		a := sharpest(nanos, tsc)
		now += 20e6
		got := rateBetween(a, sharpest(nanos, tsc))
		if got == 0 {
			continue
		}
		found++
		if d := int64(got) - hz; d > hz/1000 || -d > hz/1000 {
			t.Fatalf("%d Hz, once in %d steps taken away", got, often)
		}
	}
	if found < 2000 {
		t.Errorf("%d of 3000 rates were found", found)
	}
	if hz := rateBetween(moment{5, 7, 8}, moment{5, 7, 8}); hz != 0 {
		t.Errorf("%d Hz in no time", hz)
	}
}
