package core

// Region is a mapping [Start, End) of the runtime; Prot as in mmap(2).
type Region struct {
	Start, End uint64
	Prot       uint32
	_          uint32
}

// Regions is an ordered list of disjoint mappings within [Lo, Hi).
type Regions struct {
	Lo, Hi uint64
	r      []Region
	n      int
}

// Init gives the list its memory.
func (l *Regions) Init(lo, hi uint64, mem []Region) { l.Lo, l.Hi, l.r, l.n = lo, hi, mem, 0 }

// Len is the number of regions.
func (l *Regions) Len() int { return l.n }

// At is region i.
func (l *Regions) At(i int) Region { return l.r[i] }

// search is the first region that ends above a.
func (l *Regions) search(a uint64) int {
	lo, hi := 0, l.n
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		if l.r[m].End > a {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// Find reports the protection at a.
func (l *Regions) Find(a uint64) (prot uint32, ok bool) {
	i := l.search(a)
	if i < l.n && l.r[i].Start <= a {
		return l.r[i].Prot, true
	}
	return 0, false
}

// Vacant reports whether nothing is mapped in [start, end).
func (l *Regions) Vacant(start, end uint64) bool {
	if start < l.Lo || end > l.Hi || start >= end {
		return false
	}
	i := l.search(start)
	return i >= l.n || l.r[i].Start >= end
}

// Covered reports whether all of [start, end) is mapped.
func (l *Regions) Covered(start, end uint64) bool {
	for i := l.search(start); start < end; i++ {
		if i >= l.n || l.r[i].Start > start {
			return false
		}
		start = l.r[i].End
	}
	return true
}

// Gap is the lowest vacant place of the given size, aligned.
func (l *Regions) Gap(size, align uint64) (uint64, bool) {
	a := (l.Lo + align - 1) &^ (align - 1)
	for i := 0; i < l.n; i++ {
		if l.r[i].Start >= a && l.r[i].Start-a >= size {
			return a, true
		}
		if e := (l.r[i].End + align - 1) &^ (align - 1); e > a {
			a = e
		}
	}
	if a <= l.Hi && l.Hi-a >= size {
		return a, true
	}
	return 0, false
}

// Remove unmaps [start, end). False if the list is full (a region must be split).
func (l *Regions) Remove(start, end uint64) bool {
	i := l.search(start)
	for i < l.n && l.r[i].Start < end {
		r := l.r[i]
		switch {
		case r.Start < start && r.End > end:
			if l.n == len(l.r) {
				return false
			}
			l.r[i].End = start
			l.insert(i+1, Region{Start: end, End: r.End, Prot: r.Prot})
			return true
		case r.Start < start:
			l.r[i].End = start
			i++
		case r.End > end:
			l.r[i].Start = end
			return true
		default:
			l.delete(i)
		}
	}
	return true
}

// Set maps [start, end) with prot, over what was there. False if the list is full;
// then nothing has changed.
func (l *Regions) Set(start, end uint64, prot uint32) bool {
	if start < l.Lo || end > l.Hi || start >= end || l.n+2 > len(l.r) {
		return false
	}
	if !l.Remove(start, end) {
		return false
	}
	i := l.search(start)
	left := i > 0 && l.r[i-1].End == start && l.r[i-1].Prot == prot
	right := i < l.n && l.r[i].Start == end && l.r[i].Prot == prot
	switch {
	case left && right:
		l.r[i-1].End = l.r[i].End
		l.delete(i)
	case left:
		l.r[i-1].End = end
	case right:
		l.r[i].Start = start
	default:
		l.insert(i, Region{Start: start, End: end, Prot: prot})
	}
	return true
}

func (l *Regions) insert(i int, r Region) {
	for j := l.n; j > i; j-- {
		l.r[j] = l.r[j-1]
	}
	l.r[i] = r
	l.n++
}

func (l *Regions) delete(i int) {
	for j := i; j < l.n-1; j++ {
		l.r[j] = l.r[j+1]
	}
	l.n--
}
