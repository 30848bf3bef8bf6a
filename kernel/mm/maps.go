package mm

import "kiln/kernel/hal"

// VMA is a snapshot of one mapping for /proc/self/maps and crash reports.
type VMA struct {
	Start, End hal.UserAddr
	Prot       hal.Prot
	Shared     bool
	Offset     int64
	Dev, Ino   uint64
	Name       string  // "" where File has it
	File       Counted // MapArgs.File; only to be asked for its name
	Locked     bool
	DontDump   bool
	GrowsDown  bool
	Object     bool // shows a file or shared memory
	Policy     Policy

	// What follows is filled by Maps only if asked: pages present, those of them that
	// are the process's own memory, and the figures of smaps, in bytes.
	Resident, Anonymous                                  int64
	SharedClean, SharedDirty, PrivateClean, PrivateDirty int64
	Pss, PssDirty                                        int64
	// Mappers is how many processes map the page at most that the most map.
	Mappers int64
}

// Mappings is how many mappings there are.
func (s *Space) Mappings() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.vmas.n
}

// Maps lists the mappings in address order; Find gives the one at addr.
func (s *Space) Maps(resident bool) []VMA {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]VMA, 0, s.vmas.n)
	for v := s.vmas.first(); v != nil; v = v.next() {
		e := s.snapshot(v)
		if resident {
			s.count(v, &e)
		}
		out = append(out, e)
	}
	return out
}

// count fills in the figures of a mapping. Who shares a page of the process's own memory is
// told by its references; a file's page counts as shared by all
// mappings of that part of the file.
func (s *Space) count(v *vma, e *VMA) {
	mappers := int64(1)
	if v.obj != nil {
		mappers = max(v.obj.mappings(v), 1)
	}
	s.HW.Walk(e.Start, v.size(), false, func(_ hal.UserAddr, p hal.PTE) {
		n, kind := mappers, s.mem.kindOf(p.Frame)
		dirty := kind == KindAnon || kind == KindShmem
		if kind == KindAnon {
			e.Anonymous++
			n = max(int64(s.mem.refsOf(p.Frame)), 1)
		}
		e.Resident++
		e.Mappers = max(e.Mappers, n)
		e.Pss += hal.PageSize / n
		if dirty {
			e.PssDirty += hal.PageSize / n
		}
		switch {
		case n > 1 && dirty:
			e.SharedDirty += hal.PageSize
		case n > 1:
			e.SharedClean += hal.PageSize
		case dirty:
			e.PrivateDirty += hal.PageSize
		default:
			e.PrivateClean += hal.PageSize
		}
	})
}

// What PageMap says of a page, in the bits of /proc/PID/pagemap
// (Documentation/admin-guide/mm/pagemap.rst); the frame's number is below them.
const (
	PageMapSoftDirty = 1 << 55 // always, in a mapping: nothing clears it
	PageMapExclusive = 1 << 56 // mapped once
	PageMapFile      = 1 << 61 // of a file or of shared memory
	PageMapPresent   = 1 << 63
)

// PageMap fills in what is known of each page from addr on.
func (s *Space) PageMap(addr hal.UserAddr, out []uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var v *vma
	mappers := int64(0)
	for i := range out {
		at := uint64(addr) + uint64(i)<<hal.PageShift
		out[i] = 0
		if v == nil || at >= v.end {
			if v = s.vmas.at(at); v == nil {
				continue
			}
			if mappers = 1; v.obj != nil {
				mappers = v.obj.mappings(v)
			}
		}
		out[i] = PageMapSoftDirty
		p, ok := s.HW.Query(hal.UserAddr(at))
		if !ok {
			continue
		}
		out[i] |= PageMapPresent | uint64(p.Frame)
		n := mappers
		if s.mem.kindOf(p.Frame) == KindAnon {
			n = int64(s.mem.refsOf(p.Frame))
		} else {
			out[i] |= PageMapFile
		}
		if n == 1 {
			out[i] |= PageMapExclusive
		}
	}
}

// mappings counts those of the object that show a part of what v does.
func (o *Object) mappings(v *vma) (n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for m := o.maps; m != nil; m = m.onext {
		if m.off < v.off+int64(v.size()) && v.off < m.off+int64(m.size()) {
			n++
		}
	}
	return n
}

// Find gives the mapping at addr.
func (s *Space) Find(addr hal.UserAddr) (VMA, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if v := s.vmas.at(uint64(addr)); v != nil {
		return s.snapshot(v), true
	}
	return VMA{}, false
}

func (s *Space) snapshot(v *vma) VMA {
	e := VMA{Start: hal.UserAddr(v.start), End: hal.UserAddr(v.end), Prot: v.prot, Shared: v.shared(),
		Offset: v.off, Locked: v.flags&vmLocked != 0, DontDump: v.flags&vmDontDump != 0,
		GrowsDown: v.flags&vmGrowsDown != 0, Object: v.obj != nil, Policy: v.policy}
	switch {
	case v.back != nil:
		e.Name, e.File, e.Dev, e.Ino = v.back.name, v.back.file, v.back.dev, v.back.ino
	case v.obj == nil && v.start <= s.brkV && v.end > s.brkStart && s.brkStart != s.brkV:
		e.Name = "[heap]"
	}
	if v.obj == nil {
		e.Offset = 0
	}
	return e
}

// Usage is the sizes in /proc/self/statm and status, in pages: Shared is resident pages of
// files and Shmem those of shared memory among them, Tables what the page tables take.
type Usage struct{ Total, Resident, Shared, Shmem, Text, Data, Stack, Locked, Tables int64 }

// Usage adds up. Shared, Shmem and Text need a walk over the mappings.
func (s *Space) Usage() Usage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := Usage{Total: s.total, Resident: s.rss.Load(), Data: s.data, Stack: s.stack, Locked: s.locked, Tables: s.TablePages()}
	for v := s.vmas.first(); v != nil; v = v.next() {
		if v.obj != nil && v.prot&hal.ProtExec != 0 {
			u.Text += v.pages()
		}
		if v.obj == nil {
			continue
		}
		s.HW.Walk(hal.UserAddr(v.start), v.size(), false, func(_ hal.UserAddr, p hal.PTE) {
			switch s.mem.kindOf(p.Frame) {
			case KindAnon:
			case KindShmem:
				u.Shmem++
				u.Shared++
			default:
				u.Shared++
			}
		})
	}
	return u
}

// Resident is the pages present, without a walk.
func (s *Space) Resident() int64 { return s.rss.Load() }

// notePeak is called before pages go: what is resident may be the most there was.
func (s *Space) notePeak() {
	for {
		n, old := s.rss.Load(), s.peak.Load()
		if n <= old || s.peak.CompareAndSwap(old, n) {
			return
		}
	}
}

// Peak is the most pages that were resident at a time (VmHWM, ru_maxrss).
func (s *Space) Peak() int64 { return max(s.peak.Load(), s.rss.Load()) }

// TablePages estimates the page tables from below: full ones for what is resident, and one
// of each level above. It takes no lock: the OOM killer asks.
func (s *Space) TablePages() int64 { return s.rss.Load()/512 + 4 }
