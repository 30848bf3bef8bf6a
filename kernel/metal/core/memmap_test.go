package core

import (
	"math/rand/v2"
	"testing"
)

type memEntry struct {
	addr, size uint64
	ram        bool
}

func readMap(entries []memEntry) *MemMap {
	m := new(MemMap)
	m.Read(uint64(len(entries)), func(i uint64) (uint64, uint64, bool) { return entries[i].addr, entries[i].size, entries[i].ram })
	return m
}

// usable is what a map says of each page.
func usable(t *testing.T, m *MemMap, pages uint64) []bool {
	t.Helper()
	u := make([]bool, pages)
	for _, r := range m.R[:m.N] {
		if r.Start%memPage != 0 || r.End%memPage != 0 || r.Start >= r.End || r.End/memPage > pages {
			t.Fatalf("range %#x to %#x", r.Start, r.End)
		}
		for p := r.Start / memPage; p < r.End/memPage; p++ {
			if u[p] {
				t.Fatalf("page %d twice", p)
			}
			u[p] = true
		}
	}
	return u
}

func TestMemoryIsWhatAllEntriesAllow(t *testing.T) {
	const pages = 200
	r := rand.New(rand.NewPCG(1, 7))
	for range 3000 {
		var entries []memEntry
		ram, claimed := [pages * 2]int{}, [pages * 2]bool{} // by half pages
		for range r.IntN(24) {
			a, n, isRAM := r.Uint64N(pages*2-1), uint64(0), r.IntN(3) > 0
			if n = r.Uint64N(min(pages*2-a, 60)); isRAM && r.IntN(2) == 0 {
				a, n = a&^1, n&^1
			}
			entries = append(entries, memEntry{a * memPage / 2, n * memPage / 2, isRAM})
			for i := a; i < a+n; i++ {
				claimed[i] = claimed[i] || !isRAM
			}
			for i := (a + 1) &^ 1; isRAM && i < (a+n)&^1; i++ {
				ram[i]++
			}
		}
		got := usable(t, readMap(entries), pages)
		for p := range got {
			want := ram[2*p] > 0 && ram[2*p+1] > 0 && !claimed[2*p] && !claimed[2*p+1]
			if got[p] != want {
				t.Fatalf("%v: page %d: %v, want %v", entries, p, got[p], want)
			}
		}
	}
}

func TestTooManyRangesLoseMemoryOnly(t *testing.T) {
	const pages = 5000
	entries := []memEntry{{0, pages * memPage, true}}
	for p := uint64(1); p < pages-5; p += 5 { // a thousand holes
		entries = append(entries, memEntry{p * memPage, 1, false})
	}
	entries = append(entries, memEntry{2*memPage + 8, memPage, true}) // less than a page
	m := readMap(entries)
	n := uint64(0)
	for p, ok := range usable(t, m, pages) {
		if ok && p%5 == 1 && p < pages-5 {
			t.Fatalf("page %d is reserved", p)
		}
		if ok {
			n++
		}
	}
	if holes := uint64(len(entries) - 2); n < 4*uint64(len(m.R)) || n+m.Lost/memPage+holes != pages {
		t.Errorf("%d pages, %d lost", n, m.Lost/memPage)
	}
}

func TestAbsurdEntriesOfTheMemoryMap(t *testing.T) {
	const top = 1<<64 - 1
	for _, e := range [][]memEntry{
		{{0, 0, true}, {5, 0, false}},
		{{top - 10, 5, true}},
		{{0x1000, top, true}},
		{{0x100000, 0x100000, true}, {0x1000, top, false}},
		{{0x100000, 0x100000, true}, {0, top, false}},
	} {
		if m := readMap(e); m.N != 0 {
			t.Errorf("%v: %v", e, m.R[:m.N])
		}
	}
	m := readMap([]memEntry{{0x100000, 0x100000, true}, {0x200000, 0x100000, true}, {top - 5, 6, false}})
	if m.N != 1 || m.R[0] != (MemRange{0x100000, 0x300000}) {
		t.Errorf("%v", m.R[:m.N])
	}
}
