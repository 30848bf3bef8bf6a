package hal

import (
	"reflect"
	"testing"
)

type leaf struct{ leaf, sub uint32 }

func cpuOf(m map[leaf][4]uint32) func(l, s uint32) (a, b, c, d uint32) {
	return func(l, s uint32) (a, b, c, d uint32) {
		r := m[leaf{l, s}]
		return r[0], r[1], r[2], r[3]
	}
}

func TestCachesComeFromTheLeafThatTheProcessorHas(t *testing.T) {
	// A Xeon's L1 data cache and an L3 of 11 ways.
	intel := cpuOf(map[leaf][4]uint32{
		{0, 0}: {0x16, 0x756e6547}, {4, 0}: {0x1c004121, 7<<22 | 63, 63}, {4, 1}: {0x1c03c163, 10<<22 | 63, 0xdfff},
	})
	want := []Cache{{1, "Data", 32 << 10, 64, 1, 8, 64}, {3, "Unified", 11 * 64 * 0xe000, 64, 1, 11, 0xe000}}
	if got := ReadCaches(intel); !reflect.DeepEqual(got, want) {
		t.Errorf("Intel: %+v, want %+v", got, want)
	}
	amd := map[leaf][4]uint32{
		{0, 0}: {0x10, 0x68747541}, {0x80000000, 0}: {0x80000020}, {leafExtFeature, 0}: {0, 0, 1 << 22},
		{leafAMDCaches, 0}: {0x121, 7<<22 | 63, 63}, {leafAMDCaches, 1}: {0x143, 7<<22 | 63, 2047},
	}
	want = []Cache{{1, "Data", 32 << 10, 64, 1, 8, 64}, {2, "Unified", 1 << 20, 64, 1, 8, 2048}}
	if got := ReadCaches(cpuOf(amd)); !reflect.DeepEqual(got, want) {
		t.Errorf("AMD: %+v, want %+v", got, want)
	}
	// QEMU's qemu64: 64 KB of two ways, 512 KB of 16, 16 MB of 16.
	amd[leaf{leafExtFeature, 0}] = [4]uint32{}
	amd[leaf{leafAMDL1, 0}] = [4]uint32{0, 0, 0x40020140, 0x40020140}
	amd[leaf{leafAMDL2, 0}] = [4]uint32{0, 0, 0x02008140, 0x00808140}
	want = []Cache{{1, "Data", 64 << 10, 64, 1, 2, 512}, {1, "Instruction", 64 << 10, 64, 1, 2, 512},
		{2, "Unified", 512 << 10, 64, 1, 16, 512}, {3, "Unified", 16 << 20, 64, 1, 16, 16384}}
	if got := ReadCaches(cpuOf(amd)); !reflect.DeepEqual(got, want) {
		t.Errorf("old AMD: %+v, want %+v", got, want)
	}
	if got := ReadCaches(cpuOf(nil)); got != nil {
		t.Errorf("of no processor: %+v", got)
	}
}
