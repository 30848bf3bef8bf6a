package hal

// Cache is one of a CPU's caches.
type Cache struct {
	Level          int
	Type           string // "Data", "Instruction" or "Unified", as sysfs has them
	Size           int    // bytes
	LineSize       int    // bytes
	LinePartitions int    // physical line partitions
	Ways, Sets     int
}

// CPUID leaves that tell of caches.
const (
	leafCaches     = 4          // Intel's, SDM 2A, CPUID
	leafExtFeature = 0x80000001 // ECX bit 22: leafAMDCaches is there
	leafAMDL1      = 0x80000005
	leafAMDL2      = 0x80000006
	leafAMDCaches  = 0x8000001d // in the format of leafCaches
)

// ReadCaches asks a processor for its caches: by leaf 4, or, on AMD's, by the leaf of that
// format, else by those that older ones have (AMD APM 3, appendix E.4).
func ReadCaches(cpuid func(leaf, sub uint32) (a, b, c, d uint32)) []Cache {
	top, vendor, _, _ := cpuid(0, 0)
	ext, _, _, _ := cpuid(0x80000000, 0)
	const auth, hygo = 0x68747541, 0x6f677948 // of AuthenticAMD and HygonGenuine
	if vendor != auth && vendor != hygo {
		if top < leafCaches {
			return nil
		}
		return cachesOf(cpuid, leafCaches)
	}
	if ext >= leafAMDCaches {
		if _, _, c, _ := cpuid(leafExtFeature, 0); c>>22&1 != 0 {
			return cachesOf(cpuid, leafAMDCaches)
		}
	}
	if ext < leafAMDL2 {
		return nil
	}
	return oldAMDCaches(cpuid)
}

// cachesOf reads a leaf that has a sub-leaf a cache.
func cachesOf(cpuid func(leaf, sub uint32) (a, b, c, d uint32), leaf uint32) (l []Cache) {
	const most = 16
	for sub := uint32(0); sub < most; sub++ {
		a, b, c, _ := cpuid(leaf, sub)
		typ := a & 31
		if typ == 0 {
			break
		}
		if typ > 3 {
			continue
		}
		e := Cache{
			Level: int(a >> 5 & 7), Type: [...]string{"", "Data", "Instruction", "Unified"}[typ],
			LineSize: int(b&0xfff) + 1, LinePartitions: int(b>>12&0x3ff) + 1, Ways: int(b>>22) + 1, Sets: int(c) + 1,
		}
		e.Size = e.LineSize * e.LinePartitions * e.Ways * e.Sets
		l = append(l, e)
	}
	return l
}

// oldAMDCaches reads the leaves with a register a cache.
func oldAMDCaches(cpuid func(leaf, sub uint32) (a, b, c, d uint32)) (l []Cache) {
	add := func(level int, typ string, size, line, ways uint32) {
		if size == 0 || line == 0 || ways == 0 {
			return
		}
		if ways > size/line {
			ways = size / line // fully associative
		}
		l = append(l, Cache{Level: level, Type: typ, Size: int(size), LineSize: int(line), LinePartitions: 1, Ways: int(ways), Sets: int(size / line / ways)})
	}
	_, _, data, code := cpuid(leafAMDL1, 0)
	_, _, l2, l3 := cpuid(leafAMDL2, 0)
	first := func(typ string, r uint32) {
		ways := r >> 16 & 0xff
		if ways == 0xff {
			ways = 1 << 16
		}
		add(1, typ, r>>24<<10, r&0xff, ways)
	}
	first("Data", data)
	first("Instruction", code)
	ways := [16]uint32{0, 1, 2, 3, 4, 6, 8, 0, 16, 0, 32, 48, 64, 96, 128, 1 << 16}
	add(2, "Unified", l2>>16<<10, l2&0xff, ways[l2>>12&15])
	add(3, "Unified", l3>>18<<19, l3&0xff, ways[l3>>12&15])
	return l
}
