package core

// MemRange is memory from Start to before End.
type MemRange struct{ Start, End uint64 }

// MemMap is the memory that may be used: what firmware's map calls RAM and nothing else of it
// claims. Its entries may overlap and come in any order. The ranges are whole pages, apart from
// each other. Where there are too many, memory is left out, never what is reserved taken in.
type MemMap struct {
	N    int
	R    [128]MemRange
	Lost uint64 // bytes left out
}

const memPage = 4096

// Read makes the map of the n entries that entry gives; one that ends beyond 64 bits is no
// entry.
func (m *MemMap) Read(n uint64, entry func(i uint64) (addr, size uint64, ram bool)) {
	for i := range n {
		if a, size, ram := entry(i); ram && a+size > a && a <= 1<<64-memPage {
			m.add((a+memPage-1)&^(memPage-1), (a+size)&^(memPage-1))
		}
	}
	for i := range n {
		if a, size, ram := entry(i); !ram && size != 0 {
			end := a + size - 1
			if end < a {
				end = 1<<64 - 1
			}
			m.remove(a&^(memPage-1), end|(memPage-1))
		}
	}
}

func (m *MemMap) add(start, end uint64) {
	if start >= end {
		return
	}
	for i := 0; i < m.N; i++ {
		if r := m.R[i]; r.Start <= end && r.End >= start {
			start, end = min(start, r.Start), max(end, r.End)
			m.N--
			m.R[i] = m.R[m.N]
			i = -1 // the range has grown: it may touch those before
		}
	}
	m.put(MemRange{start, end})
}

// remove takes [start, last] out.
func (m *MemMap) remove(start, last uint64) {
	for i := m.N - 1; i >= 0; i-- { // what put appends lies outside
		r := m.R[i]
		if r.End <= start || r.Start > last {
			continue
		}
		m.N--
		m.R[i] = m.R[m.N]
		if r.Start < start {
			m.put(MemRange{r.Start, start})
		}
		if r.End-1 > last {
			m.put(MemRange{last + 1, r.End})
		}
	}
}

// put stores a range, leaving out the smallest if there are too many.
func (m *MemMap) put(r MemRange) {
	if m.N < len(m.R) {
		m.R[m.N] = r
		m.N++
		return
	}
	for i := range m.R {
		if o := m.R[i]; o.End-o.Start < r.End-r.Start {
			m.R[i], r = r, o
		}
	}
	m.Lost += r.End - r.Start
}
