package metal

import (
	"strconv"
	"strings"
)

// Noise is for tests: kiln.debug.timer=HZ on the command line makes the timer of each CPU
// fire HZ times a second on average, at random moments and without need, take ring 3 and
// Go code off the CPU, and say that a deadline has passed which has not.

// noiseMean is nanoseconds from one such interrupt to the next; 0: there are none.
var noiseMean int64

const maxNoise = 100_000 // HZ

func setNoise(cmdline string) {
	for _, w := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(w, "kiln.debug.timer="); ok {
			if hz, err := strconv.Atoi(v); err == nil && hz > 0 {
				noiseMean = 1e9 / int64(min(hz, maxNoise))
			}
		}
	}
}

// noise does what a timer interrupt without need may do, and chooses when the next comes.
func (c *CPU) noise(now int64) {
	r := c.noiseState + uint64(now)
	r ^= r << 13
	r ^= r >> 7
	r ^= r << 17
	c.noiseState = r
	c.noiseAt = now + 1 + int64(r>>1%uint64(2*noiseMean))
	if r>>60&1 != 0 {
		latchLine(lineDeadline, c.fromUser())
	}
	if r>>61&1 != 0 {
		c.resched = 1
	}
}
