package loader

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// loading is one program on its way into an address space.
type loading struct {
	c     wait.Context
	r     *Request
	a     *args
	s     *mm.Space
	rnd   random
	img   *Image
	f     File
	h     header
	segs  []segment
	inter File
	ih    header
	isegs []segment
	phdr  uint64 // address of the program headers
	end   uint64 // the break, before it is moved
	entry uint64 // the program's own, for AT_ENTRY
}

// loadELF loads f, whose first bytes are head. On success the image owns f.
func loadELF(c wait.Context, mem *mm.Memory, r *Request, a *args, f File, head []byte) (*Image, error) {
	l := &loading{c: c, r: r, a: a, f: f, rnd: random{fill: r.Random, off: r.NoRandom}, img: &Image{Exe: f}}
	err := l.open(head)
	if l.inter != nil {
		defer l.inter.DecRef()
	}
	if err != nil {
		return nil, err
	}
	if l.s, err = mm.NewSpace(mem); err != nil {
		return nil, err
	}
	l.s.SetLimits(r.Limits)
	if err := l.build(); err != nil {
		l.s.DecUsers()
		return nil, &LateError{err}
	}
	l.img.Space = l.s
	return l.img, nil
}

// open reads all headers; nothing has been mapped when it fails.
func (l *loading) open(head []byte) error {
	var ok bool
	if l.h, ok = parseHeader(head); !ok || l.f.Object() == nil {
		return unix.ENOEXEC
	}
	if l.segs, ok = readSegments(l.c, l.f, &l.h); !ok {
		return unix.ENOEXEC
	}
	name, err := interpreter(l.c, l.f, l.segs)
	if err != nil {
		return err
	}
	for i := range l.segs {
		if s := &l.segs[i]; s.typ == ptGNUStack {
			l.img.ExecStack = s.flags&pfX != 0
		}
	}
	if name == "" && !hasInterp(l.segs) {
		return nil
	}
	l.img.Interp = name
	if l.inter, err = l.r.Open(name); err != nil {
		return err
	}
	b := make([]byte, ehSize)
	if err := readFull(l.c, l.inter, b, 0); err != nil {
		return err
	}
	if l.ih, ok = parseHeader(b); !ok || l.inter.Object() == nil {
		return unix.ELIBBAD
	}
	if l.isegs, ok = readSegments(l.c, l.inter, &l.ih); !ok {
		return unix.ELIBBAD
	}
	return nil
}

func hasInterp(segs []segment) bool {
	for i := range segs {
		if segs[i].typ == ptInterp {
			return true
		}
	}
	return false
}

// build fills the address space.
func (l *loading) build() error {
	l.s.SetMmapBase(hal.UserAddr(l.rnd.mmapBase(l.r.Limits.Stack)))
	st, err := l.newStack()
	if err != nil {
		return err
	}
	if err := l.program(); err != nil {
		return err
	}
	if l.inter != nil {
		err = l.interpreter()
	}
	if err != nil {
		return err
	}
	if uint64(l.img.Entry) >= top {
		return unix.EINVAL
	}
	l.placeBrk()
	if l.r.VDSO != nil {
		if err := l.mapVDSO(st); err != nil {
			return err
		}
	}
	return st.finish()
}

// program maps the program's own segments and sets its entry.
func (l *loading) program() error {
	hint, flags := uint64(0), unix.MAP_FIXED_NOREPLACE
	if l.h.typ == etDyn {
		if l.inter != nil {
			hint = pieBase + l.rnd.bits(mmapBits)<<hal.PageShift
			hint &^= alignment(l.segs) - 1
		} else {
			flags = 0
		}
	}
	m := mapper{l: l, f: l.f, segs: l.segs, errSane: unix.EINVAL}
	bias, err := m.run(l.h.typ == etDyn, hint, flags)
	if err != nil {
		return err
	}
	l.phdr = m.phdr(&l.h) + bias
	l.end = pageUp(m.memEnd)
	l.entry = l.h.entry + bias
	l.img.Base, l.img.Entry = hal.UserAddr(bias), hal.UserAddr(l.entry)
	l.img.Code = Range{hal.UserAddr(m.codeStart), hal.UserAddr(m.codeEnd)}
	l.img.Data = Range{hal.UserAddr(m.dataStart), hal.UserAddr(m.dataEnd)}
	return nil
}

func (l *loading) interpreter() error {
	m := mapper{l: l, f: l.inter, segs: l.isegs, errSane: unix.ENOMEM}
	flags := 0
	if l.ih.typ == etExec {
		flags = unix.MAP_FIXED
	}
	bias, err := m.run(l.ih.typ == etDyn, 0, flags)
	if err != nil {
		return err
	}
	l.img.InterpBase = hal.UserAddr(bias)
	l.img.Entry = hal.UserAddr(l.ih.entry + bias)
	return nil
}

// placeBrk sets the break after the last segment, or for a static PIE, which lies in
// the mmap area, where PIEs would be.
func (l *loading) placeBrk() {
	at := l.end
	if !l.rnd.off && l.h.typ == etDyn && l.inter == nil {
		at = pieBase
	}
	at = pageUp(at) + l.rnd.below(brkRange>>hal.PageShift)<<hal.PageShift
	l.img.BrkStart = hal.UserAddr(at)
	l.s.SetBrkStart(l.img.BrkStart)
}

// mapper maps one ELF file's PT_LOAD segments.
type mapper struct {
	l       *loading
	f       File
	segs    []segment
	errSane error // for a segment outside the program's half

	bias                                   uint64
	fileEnd, memEnd                        uint64 // highest byte from the file, and of all
	bssProt                                hal.Prot
	codeStart, codeEnd, dataStart, dataEnd uint64
}

// run maps everything and returns what was added to the file's addresses. A file that
// may move goes to hint, or where mmap puts it; flags are those of its first mapping.
func (m *mapper) run(moves bool, hint uint64, flags int) (uint64, error) {
	total := uint64(0) // a fixed program is mapped piece by piece
	if moves || m.f == m.l.inter {
		if total = extent(m.segs); total == 0 {
			return 0, unix.EINVAL
		}
	}
	m.codeStart = ^uint64(0)
	first := true
	for i := range m.segs {
		s := &m.segs[i]
		if s.typ != ptLoad {
			continue
		}
		if m.memEnd > m.fileEnd {
			// An earlier segment's zero part; errors in clearing it do not count.
			if err := m.bss(false); err != nil && err != unix.EFAULT {
				return 0, err
			}
		}
		at := s.vaddr + m.bias
		if !first {
			flags = unix.MAP_FIXED
		} else if moves {
			at = hint
		}
		got, err := m.segment(s, at, flags, total)
		if err != nil {
			return 0, err
		}
		if first && moves {
			m.bias = got - pageDown(s.vaddr)
		}
		first, total = false, 0
		if err := m.note(s); err != nil {
			return 0, err
		}
	}
	if m.memEnd > m.fileEnd {
		if err := m.bss(true); err != nil {
			return 0, err
		}
	}
	return m.bias, nil
}

// segment maps the file's part of s with its first page at at's; total, if not 0, is the
// room to reserve for all segments. It returns the address of the first page.
func (m *mapper) segment(s *segment, at uint64, flags int, total uint64) (uint64, error) {
	skew := s.vaddr & hal.PageMask
	size := pageUp(s.filesz + skew)
	at = pageDown(at)
	if size == 0 {
		return at, nil
	}
	if size < s.filesz || at >= top {
		return 0, unix.ENOMEM
	}
	room := max(size, pageUp(total))
	dev, ino := m.f.ID()
	got, err := m.l.s.Mmap(m.l.c, mm.MapArgs{
		Addr: hal.UserAddr(at), Len: room, Prot: s.prot(), Flags: unix.MAP_PRIVATE | flags,
		Object: m.f.Object(), Offset: int64(s.off - skew), Name: m.f.Path(), Dev: dev, Ino: ino, File: m.f.Mapped(),
	})
	if err != nil {
		return 0, err
	}
	if room > size {
		err = m.l.s.Munmap(got+hal.UserAddr(size), room-size)
	}
	return uint64(got), err
}

// note checks a mapped segment and widens the ends.
func (m *mapper) note(s *segment) error {
	if !s.sane(m.bias) {
		return m.errSane
	}
	k := s.vaddr + m.bias
	if s.flags&pfX != 0 {
		m.codeStart = min(m.codeStart, k)
		m.codeEnd = max(m.codeEnd, k+s.filesz)
	}
	m.dataStart = max(m.dataStart, k)
	m.dataEnd = max(m.dataEnd, k+s.filesz)
	m.fileEnd = max(m.fileEnd, k+s.filesz)
	if k+s.memsz > m.memEnd {
		m.memEnd = k + s.memsz
		m.bssProt = s.prot()
	}
	return nil
}

// bss clears the rest of the last file page (up to the page's end if last is set) and
// maps zeroes up to memEnd. They can be written whatever the segment says, as on Linux.
// EFAULT: the file page cannot be.
func (m *mapper) bss(last bool) error {
	at, from, to := m.fileEnd, pageUp(m.fileEnd), pageUp(m.memEnd)
	if to > from {
		_, err := m.l.s.Mmap(m.l.c, mm.MapArgs{Addr: hal.UserAddr(from), Len: to - from,
			Prot:  hal.ProtRead | hal.ProtWrite | m.bssProt&hal.ProtExec,
			Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED})
		if err != nil {
			return err
		}
	}
	n := from - at
	if !last {
		n = min(n, m.memEnd-at)
	}
	m.fileEnd = m.memEnd
	return m.l.s.Zero(m.l.c, hal.UserAddr(at), int(n))
}

// phdr is the address, in the file's terms, of the program headers: 0 if no segment
// holds them.
func (m *mapper) phdr(h *header) (at uint64) {
	for i := range m.segs {
		if s := &m.segs[i]; s.typ == ptLoad && s.off <= h.phoff && h.phoff-s.off < s.filesz {
			at = h.phoff - s.off + s.vaddr
		}
	}
	return at
}
