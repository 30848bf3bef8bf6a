package metal

import (
	"encoding/binary"
	"strings"

	"kiln/kernel/hal"
)

// flagNames are /proc/cpuinfo's names of CPUID bits that programs look for.
var flagNames = []struct {
	leaf, reg, bit uint32
	name           string
}{
	{1, 3, 0, "fpu"}, {1, 3, 4, "tsc"}, {1, 3, 5, "msr"}, {1, 3, 6, "pae"}, {1, 3, 8, "cx8"},
	{1, 3, 9, "apic"}, {1, 3, 13, "pge"}, {1, 3, 15, "cmov"}, {1, 3, 19, "clflush"}, {1, 3, 23, "mmx"},
	{1, 3, 24, "fxsr"}, {1, 3, 25, "sse"}, {1, 3, 26, "sse2"}, {1, 3, 28, "ht"},
	{0x80000001, 3, 11, "syscall"}, {0x80000001, 3, 20, "nx"}, {0x80000001, 3, 26, "pdpe1gb"},
	{0x80000001, 3, 27, "rdtscp"}, {0x80000001, 3, 29, "lm"},
	{1, 2, 0, "pni"}, {1, 2, 1, "pclmulqdq"}, {1, 2, 9, "ssse3"}, {1, 2, 12, "fma"}, {1, 2, 13, "cx16"},
	{1, 2, 19, "sse4_1"}, {1, 2, 20, "sse4_2"}, {1, 2, 22, "movbe"}, {1, 2, 23, "popcnt"}, {1, 2, 25, "aes"},
	{1, 2, 26, "xsave"}, {1, 2, 28, "avx"}, {1, 2, 29, "f16c"}, {1, 2, 30, "rdrand"}, {1, 2, 31, "hypervisor"},
	{0x80000001, 2, 0, "lahf_lm"}, {0x80000001, 2, 5, "abm"}, {0x80000001, 2, 8, "3dnowprefetch"},
	{7, 1, 0, "fsgsbase"}, {7, 1, 3, "bmi1"}, {7, 1, 5, "avx2"}, {7, 1, 7, "smep"}, {7, 1, 8, "bmi2"},
	{7, 1, 9, "erms"}, {7, 1, 18, "rdseed"}, {7, 1, 19, "adx"}, {7, 1, 20, "smap"},
	{7, 1, 23, "clflushopt"}, {7, 1, 24, "clwb"}, {7, 1, 29, "sha_ni"},
}

func (m *Machine) readFeatures() {
	f := &m.feat
	_, b, c, d := cpuid(0, 0)
	f.Vendor = words(b, d, c)
	a, _, _, d := cpuid(1, 0)
	f.HWCAP = d
	f.Stepping = int(a & 15)
	f.Model = int(a >> 4 & 15)
	f.Family = int(a >> 8 & 15)
	if f.Family == 6 || f.Family == 15 {
		f.Model |= int(a>>16&15) << 4
	}
	if f.Family == 15 {
		f.Family += int(a >> 20 & 255)
	}
	if cpuInfo.maxExt >= 0x80000004 {
		for l := uint32(0x80000002); l <= 0x80000004; l++ {
			f.Brand += words(cpuid(l, 0))
		}
		f.Brand = strings.Trim(f.Brand, " \x00")
	}
	for _, n := range flagNames {
		top := cpuInfo.maxLeaf
		if n.leaf >= 0x80000000 {
			top = cpuInfo.maxExt
		}
		if n.leaf > top {
			continue
		}
		a, b, c, d := cpuid(n.leaf, 0)
		if [...]uint32{a, b, c, d}[n.reg]>>n.bit&1 != 0 {
			f.Flags = append(f.Flags, n.name)
		}
	}
	f.FSGSBASE, f.SMEP, f.SMAP, f.RDRAND = cpuInfo.fsgsbase, cpuInfo.smep, cpuInfo.smap, cpuInfo.rdrand
	f.Caches = hal.ReadCaches(cpuid)
	f.TSCHz = clk.hz
	f.CPUSegment = selCPU | 3
}

func words(w ...uint32) string {
	var b []byte
	for _, v := range w {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return string(b)
}
