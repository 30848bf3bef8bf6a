package mm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// The model: a window of pages, each with what a program may see there.
const (
	modelBase  = 0x40000000
	modelPages = 96
)

type modelPage struct {
	mapped, shared bool
	prot           hal.Prot
	file           *modelFile
	idx            int64
	own            *byte // private contents (first byte); nil: the file's, or zero
}

type modelFile struct {
	o     *Object
	bytes map[int64]byte // first byte of each page
	size  int64          // pages
}

type modelSpace struct {
	s *Space
	p [modelPages]modelPage
}

func addrOf(i int) hal.UserAddr { return hal.UserAddr(modelBase + i*pg) }

// expect is what an access to page i must give.
func (ms *modelSpace) expect(i int, access hal.Prot) (val byte, sig unix.Signal, code int) {
	p := &ms.p[i]
	switch {
	case !p.mapped:
		return 0, unix.SIGSEGV, segvMapErr
	case access&^p.prot != 0 && !(access == hal.ProtRead && p.prot != 0):
		return 0, unix.SIGSEGV, segvAccErr
	case p.file != nil && p.idx >= p.file.size:
		return 0, unix.SIGBUS, busAdrErr
	case p.own != nil:
		return *p.own, 0, 0
	case p.file != nil:
		return p.file.bytes[p.idx], 0, 0
	}
	return 0, 0, 0
}

func (ms *modelSpace) set(i int, v byte) {
	p := &ms.p[i]
	if p.shared {
		p.file.bytes[p.idx] = v
	} else {
		p.own = &v
	}
}

type modelRun struct {
	r      *rig
	rng    *rand.Rand
	spaces []*modelSpace
	files  []*modelFile
	log    []string
}

func (m *modelRun) logf(f string, a ...any) { m.log = append(m.log, fmt.Sprintf(f, a...)) }

func (m *modelRun) fail(f string, a ...any) {
	m.r.t.Helper()
	for _, l := range m.log[max(0, len(m.log)-40):] {
		m.r.t.Log(l)
	}
	m.r.t.Fatalf(f, a...)
}

func (m *modelRun) access(ms *modelSpace, i int, write bool) {
	access := hal.ProtRead
	if write {
		access = hal.ProtWrite
	}
	val, sig, code := ms.expect(i, access)
	v := byte(m.rng.IntN(255) + 1)
	m.logf("access page %d write %v of %d", i, write, v)
	if sig != 0 {
		err := ms.s.HandleFault(nil, addrOf(i), access)
		f, ok := err.(*FaultError)
		if !ok || f.Signal != int(sig) || f.Code != code {
			m.fail("page %d: %v, want signal %d code %d", i, err, sig, code)
		}
		return
	}
	if write {
		if _, err := ms.s.CopyOut(nil, addrOf(i), []byte{v}); err != nil {
			m.fail("page %d: %v", i, err)
		}
		ms.set(i, v)
		return
	}
	var b [1]byte
	if _, err := ms.s.CopyIn(nil, b[:], addrOf(i)); err != nil || b[0] != val {
		m.fail("page %d: read %d, %v; want %d", i, b[0], err, val)
	}
}

// span picks a range of pages.
func (m *modelRun) span() (i, n int) {
	i = m.rng.IntN(modelPages - 1)
	return i, 1 + m.rng.IntN(min(24, modelPages-i))
}

func (m *modelRun) prot() hal.Prot {
	return []hal.Prot{0, hal.ProtRead, rw, rw, rw, protAll}[m.rng.IntN(6)]
}

func (m *modelRun) mmap(ms *modelSpace) {
	i, n := m.span()
	a := MapArgs{Addr: addrOf(i), Len: uint64(n * pg), Prot: m.prot(), Flags: fixed | anon}
	var f *modelFile
	shared := false
	if k := m.rng.IntN(3); k > 0 {
		f = m.files[m.rng.IntN(len(m.files))]
		shared = k == 2
		a.Object, a.Offset, a.Flags = f.o, int64(m.rng.IntN(8)*pg), fixed|priv
		a.Name, a.Ino = "f", uint64(f.size)
		if shared {
			a.Flags = fixed | unix.MAP_SHARED
		}
	}
	m.logf("mmap page %d+%d prot %d shared %v file %v off %d", i, n, a.Prot, shared, f != nil, a.Offset)
	if _, err := ms.s.Mmap(nil, a); err != nil {
		m.fail("mmap: %v", err)
	}
	for j := range n {
		ms.p[i+j] = modelPage{mapped: true, shared: shared, prot: a.Prot, file: f, idx: a.Offset/pg + int64(j)}
	}
}

func (m *modelRun) munmap(ms *modelSpace) {
	i, n := m.span()
	m.logf("munmap %d+%d", i, n)
	if err := ms.s.Munmap(addrOf(i), uint64(n*pg)); err != nil {
		m.fail("munmap: %v", err)
	}
	for j := range n {
		ms.p[i+j] = modelPage{}
	}
}

func (m *modelRun) mprotect(ms *modelSpace) {
	i, n := m.span()
	p := m.prot()
	m.logf("mprotect %d+%d %d", i, n, p)
	err := ms.s.Mprotect(addrOf(i), uint64(n*pg), p)
	for j := range n {
		if !ms.p[i+j].mapped {
			if err != unix.ENOMEM {
				m.fail("mprotect over a hole: %v", err)
			}
			return
		}
		ms.p[i+j].prot = p
	}
	if err != nil {
		m.fail("mprotect: %v", err)
	}
}

func (m *modelRun) dontneed(ms *modelSpace) {
	i, n := m.span()
	m.logf("dontneed %d+%d", i, n)
	err := ms.s.Madvise(nil, addrOf(i), uint64(n*pg), unix.MADV_DONTNEED)
	hole := false
	for j := range n {
		hole = hole || !ms.p[i+j].mapped
		ms.p[i+j].own = nil
	}
	if (err == unix.ENOMEM) != hole || err != nil && !hole {
		m.fail("dontneed: %v, hole %v", err, hole)
	}
}

// mremap moves a range that lies in one run of alike pages to a fixed place.
func (m *modelRun) mremap(ms *modelSpace) {
	i, n := m.span()
	to, newN := m.span()
	if i < to+newN && to < i+n {
		return
	}
	v, ok := ms.s.Find(addrOf(i))
	m.logf("mremap %d+%d to %d+%d (%v %v)", i, n, to, newN, ok, v)
	_, err := ms.s.Mremap(nil, addrOf(i), uint64(n*pg), uint64(newN*pg), mremapMayMove|mremapFixed, addrOf(to))
	if !ok {
		if err != unix.EFAULT {
			m.fail("mremap of nothing: %v", err)
		}
		return
	}
	for j := range newN {
		ms.p[to+j] = modelPage{}
	}
	for j := newN; j < n; j++ {
		ms.p[i+j] = modelPage{}
	}
	n = min(n, newN)
	if v.End < addrOf(i+n) {
		if err != unix.EFAULT {
			m.fail("mremap across mappings: %v", err)
		}
		return
	}
	if err != nil {
		m.fail("mremap: %v", err)
	}
	for j := range newN {
		q := ms.p[i]
		if j < n {
			q = ms.p[i+j]
		} else {
			q = ms.p[to+n-1]
			q.own = nil
			q.idx += int64(j - n + 1)
		}
		ms.p[to+j] = q
	}
	for j := range n {
		ms.p[i+j] = modelPage{}
	}
}

func (m *modelRun) truncate() {
	f := m.files[m.rng.IntN(len(m.files))]
	n := int64(m.rng.IntN(16))
	m.logf("truncate to %d pages", n)
	if err := f.o.Truncate(n * pg); err != nil {
		m.fail("truncate: %v", err)
	}
	f.size = n
	for i := range f.bytes {
		if i >= n {
			delete(f.bytes, i)
		}
	}
	for _, ms := range m.spaces {
		for i := range ms.p {
			if p := &ms.p[i]; p.file == f && p.idx >= n {
				p.own = nil
			}
		}
	}
}

func (m *modelRun) write() {
	f := m.files[m.rng.IntN(len(m.files))]
	if f.size == 0 {
		return
	}
	idx, v := m.rng.Int64N(f.size), byte(m.rng.IntN(255)+1)
	m.logf("write page %d of file: %d", idx, v)
	m.r.write(f.o, idx*pg, v)
	f.bytes[idx] = v
	m.r.wantRead(f.o, idx*pg, v)
}

func (m *modelRun) fork(ms *modelSpace) {
	if len(m.spaces) >= 3 {
		k := m.rng.IntN(len(m.spaces))
		m.logf("exit of space %d", k)
		m.spaces[k].s.DecUsers()
		m.spaces = append(m.spaces[:k], m.spaces[k+1:]...)
		return
	}
	m.logf("fork")
	s, err := ms.s.Fork()
	if err != nil {
		m.fail("fork: %v", err)
	}
	n := &modelSpace{s: s, p: ms.p}
	for i := range n.p {
		if o := n.p[i].own; o != nil {
			v := *o
			n.p[i].own = &v
		}
	}
	m.spaces = append(m.spaces, n)
}

func (m *modelRun) step() {
	ms := m.spaces[m.rng.IntN(len(m.spaces))]
	switch k := m.rng.IntN(100); {
	case k < 55:
		i, n := m.span()
		write := m.rng.IntN(2) == 0
		for j := range min(n, 4) {
			m.access(ms, i+j, write)
		}
	case k < 65:
		m.mmap(ms)
	case k < 70:
		m.munmap(ms)
	case k < 78:
		m.mprotect(ms)
	case k < 82:
		m.dontneed(ms)
	case k < 87:
		m.mremap(ms)
	case k < 90:
		m.truncate()
	case k < 95:
		m.write()
	case k < 97:
		m.fork(ms)
	default:
		m.logf("reclaim")
		m.r.mem.Reclaim(int64(m.rng.IntN(20)))
	}
	ms.s.verify(m.r.t)
}

// sameMaps compares the mappings with the model's pages.
func (m *modelRun) sameMaps(ms *modelSpace) {
	at := map[int]VMA{}
	for _, v := range ms.s.Maps(false) {
		for a := v.Start; a < v.End; a += pg {
			at[int(a-modelBase)/pg] = v
		}
	}
	for i := range ms.p {
		p := &ms.p[i]
		v, ok := at[i]
		if ok != p.mapped || ok && (v.Prot != p.prot || v.Shared != p.shared || v.Object != (p.file != nil)) {
			m.fail("page %d: %+v, mapped %v; model %+v", i, v, ok, *p)
		}
		if ok && p.file != nil && v.Offset+int64(addrOf(i)-v.Start) != p.idx*pg {
			m.fail("page %d: offset %d, want %d", i, v.Offset, p.idx*pg)
		}
	}
}

// Random operations on address spaces that share files agree with a naive model,
// and leave nothing behind.
func TestSpacesAgreeWithModel(t *testing.T) {
	steps := 6000
	if testing.Short() {
		steps = 1500
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := newRig(t, 4096)
			m := &modelRun{r: r, rng: rand.New(rand.NewPCG(seed, 1))}
			m.spaces = []*modelSpace{{s: r.space()}}
			d := newDisk(r.m, 64)
			m.files = []*modelFile{
				{o: NewObject(r.mem, nil, 8*pg), bytes: map[int64]byte{}, size: 8},
				{o: NewObject(r.mem, d, 12*pg), bytes: map[int64]byte{}, size: 12},
				{o: NewObject(r.mem, newImage(r, 12), 12*pg), bytes: map[int64]byte{}, size: 12},
			}
			for i := range int64(12) {
				m.files[1].bytes[i], m.files[2].bytes[i] = byte(i+1), byte(i+1)
			}
			for i := range steps {
				m.step()
				if i%64 == 0 {
					for _, ms := range m.spaces {
						m.sameMaps(ms)
					}
				}
			}
			for _, ms := range m.spaces {
				for i := range ms.p {
					m.access(ms, i, false)
				}
				ms.s.DecUsers()
			}
			for _, f := range m.files {
				f.o.DecRef()
			}
			r.close()
		})
	}
}
