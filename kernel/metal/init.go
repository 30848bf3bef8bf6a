package metal

import "math/bits"

// seedRNG collects what randomness there is without a device: RDRAND, the time of
// day, and the jitter of port reads against the TSC.
func seedRNG() {
	if cpuInfo.rdrand {
		for i := 0; i < 8; i++ {
			if v, ok := rdrand(); ok {
				rng.Mix(v)
			}
		}
	}
	last := rdtsc()
	acc := uint64(0)
	for i := 0; i < 32; i++ {
		in8(0x61)
		t := rdtsc()
		acc = bits.RotateLeft64(acc, 7) ^ (t - last)
		last = t
		if i&7 == 7 {
			rng.Mix(acc ^ t)
		}
	}
	rng.Mix(uint64(readRTC()))
}

// initTrapState is the rest of what must stand before the runtime starts.
func initTrapState() {
	for i := 0; i < 3; i++ {
		base.fds[i].kind = fileConsole
	}
	readMADT()
	// The first interrupt finds the base as the first trap does.
	(*CPU)(ptr(base.cpus[0])).armedAt = 0
}
