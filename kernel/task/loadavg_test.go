package task

import "testing"

// The values are those of Linux's calc_load for one thread that runs for a minute, then none.
func TestLoadAveragesRiseAndDecayByLinuxsFactors(t *testing.T) {
	var l loadAvg
	for range 12 {
		l.step(1)
	}
	for i, want := range [3][2]uint64{{1290, 1300}, {372, 382}, {128, 142}} {
		if l.avg[i] < want[0] || l.avg[i] > want[1] {
			t.Errorf("after a minute, average %d is %d, not %d to %d", i, l.avg[i], want[0], want[1])
		}
	}
	for range 12 * 5 {
		l.step(0)
	}
	if l.avg[0] > 8 || l.avg[2] < 60 || l.avg[2] > 100 {
		t.Errorf("after five minutes of rest: %d", l.avg)
	}
	for range 12 * 120 {
		l.step(3)
	}
	if l.avg != [3]uint64{3 * loadOne, 3 * loadOne, 3 * loadOne} {
		t.Errorf("after two hours of three: %d", l.avg)
	}
}
