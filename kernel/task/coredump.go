package task

import (
	"path"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// CoreNames is /proc/sys/kernel/core_pattern and core_uses_pid.
type CoreNames struct {
	pattern atomic.Pointer[string]
	UsesPID atomic.Int64
}

// corePatternMax is CORENAME_MAX_SIZE without its NUL.
const corePatternMax = 127

// Pattern is how core files are named; SetPattern replaces it (EINVAL: a pipe to a program,
// which this kernel does not start).
func (c *CoreNames) Pattern() string {
	if p := c.pattern.Load(); p != nil {
		return *p
	}
	return "core"
}

// SetPattern cuts s to what Linux takes.
func (c *CoreNames) SetPattern(s string) error {
	if strings.HasPrefix(s, "|") {
		return unix.EINVAL
	}
	s = s[:min(len(s), corePatternMax)]
	c.pattern.Store(&s)
	return nil
}

// Bits of coredump_filter (core(5)).
const (
	dumpAnonPrivate = 1 << iota
	dumpAnonShared
	dumpMappedPrivate
	dumpMappedShared
	dumpELFHeaders
)

// dumpCore writes a core file of the process, which dies of info's signal, if
// RLIMIT_CORE, the process's dumpable attribute and core_pattern allow it. Every other
// thread is told to end and held before it gives anything back. True: there is one (what
// did not fit is missing, as on Linux). See core(5).
func (t *Thread) dumpCore(info *SignalInfo) bool {
	p, k := t.process, t.k
	limit := p.Limit(unix.RLIMIT_CORE)
	name := k.Core.Pattern()
	if limit < hal.PageSize || p.Dumpable() != 1 || name == "" || t.FS() == nil {
		return false
	}
	if !t.holdSiblings(uint32(info.Signo)) {
		return false
	}
	c := coreFile{t: t, limit: limit}
	done := c.write(k.Core.name(t, info, limit), info)
	p.mu.Lock()
	if done {
		p.exitCode |= 0x80
	}
	p.dumper = nil
	for o := p.threads; o != nil; o = o.sibling {
		o.notify(fEvent)
	}
	p.mu.Unlock()
	t.flags.Or(fEnd)
	return done
}

// holdSiblings begins the end of the process with a status and waits until every other
// thread is where it is held (holdForCore) or past it. False: it is ending already.
func (t *Thread) holdSiblings(status uint32) bool {
	p := t.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exitFlag || p.execing != nil {
		return false
	}
	p.exitFlag, p.exitCode, p.stopSig, p.dumper = true, status, 0, t
	for o := p.threads; o != nil; o = o.sibling {
		if o != t {
			o.notify(fEnd)
		}
	}
	for {
		busy := false
		for o := p.threads; o != nil; o = o.sibling {
			busy = busy || o != t && !o.held && !o.exiting
		}
		if !busy {
			return true
		}
		t.flags.And(^fEvent)
		p.mu.Unlock()
		t.k.Sched.block(t, fEvent)
		p.mu.Lock()
	}
}

// holdForCore holds a thread that ends while another writes a core file.
func (t *Thread) holdForCore() {
	p := t.process
	p.mu.Lock()
	for d := p.dumper; d != nil && d != t; d = p.dumper {
		t.held = true
		t.flags.And(^fEvent)
		d.notify(fEvent)
		p.mu.Unlock()
		t.k.Sched.block(t, fEvent)
		p.mu.Lock()
	}
	p.mu.Unlock()
}

// name expands the pattern (format_corename).
func (c *CoreNames) name(t *Thread, info *SignalInfo, limit uint64) string {
	p := t.process
	exe := ""
	if img := p.Image(); img != nil && img.Exe != nil {
		exe = t.k.NS.Name(img.Exe.Path, t.FS().Root())
	}
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "!") }
	pattern := c.Pattern()
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			b.WriteByte(pattern[i])
			continue
		}
		if i++; i == len(pattern) {
			break
		}
		switch pattern[i] {
		case '%':
			b.WriteByte('%')
		case 'p', 'P':
			b.WriteString(num(int64(p.pid)))
		case 'i', 'I':
			b.WriteString(num(int64(t.TID())))
		case 'u':
			b.WriteString(num(int64(t.Creds().UID)))
		case 'g':
			b.WriteString(num(int64(t.Creds().GID)))
		case 'd':
			b.WriteString(num(int64(p.Dumpable())))
		case 's':
			b.WriteString(num(int64(info.Signo)))
		case 't':
			b.WriteString(num(t.k.M.Walltime() / 1e9))
		case 'h':
			b.WriteString(flat(t.k.UTS.Hostname()))
		case 'e':
			b.WriteString(flat(t.Name()))
		case 'f':
			b.WriteString(path.Base(exe))
		case 'E':
			b.WriteString(flat(exe))
		case 'c':
			b.WriteString(strconv.FormatUint(limit, 10))
		}
	}
	if c.UsesPID.Load() != 0 && !strings.Contains(pattern, "%p") {
		b.WriteString("." + num(int64(p.pid)))
	}
	return b.String()
}

// coreFile is one on its way.
type coreFile struct {
	t     *Thread
	f     *vfs.File
	off   int64
	limit uint64 // bytes that may still be written
	steps int
	buf   [16 * hal.PageSize]byte
}

// segment is one mapping and how much of it goes into the file.
type segment struct {
	mm.VMA
	size uint64
}

// write makes the file: ELF header, program headers, notes, memory.
func (c *coreFile) write(name string, info *SignalInfo) bool {
	t := c.t
	l := t.Lookup(vfs.Path{})
	_ = t.k.NS.Unlink(l, name, false)
	f, err := t.k.NS.Open(l, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return false
	}
	defer f.DecRef()
	// A umask that takes away more, a file that is not the owner's: no dump.
	if a, err := f.Ops.Attr(t); err != nil || a.Mode&(unix.S_IFMT|0o677) != unix.S_IFREG|0o600 || a.Nlink != 1 || a.UID != t.Creds().FSUID {
		return false
	}
	c.f = f
	segs := t.segments()
	budget := t.space.Memory().Budget()
	cost := int64(t.process.NumThreads()+1)*(4096+int64(len(t.Ctx.FP))) + int64(len(segs))*(256+elfPhdr)
	if !budget.Charge(cost) {
		return false
	}
	defer budget.Uncharge(cost)
	notes := t.coreNotes(info, segs)
	if c.put(coreHeaders(segs, len(notes))) && c.put(notes) {
		c.off = (c.off + hal.PageMask) &^ hal.PageMask
		for _, s := range segs {
			if !c.memory(uint64(s.Start), s.size) {
				break
			}
		}
	}
	_ = f.Ops.SetAttr(t, vfs.SetAttr{SetSize: true, Size: c.off}) // it may end in a hole
	return true
}

// put writes b; false: the limit or the file system is full.
func (c *coreFile) put(b []byte) bool {
	for len(b) > 0 {
		if uint64(len(b)) > c.limit {
			return false
		}
		q := mm.KernelIO(b)
		n, err := c.f.WriteAt(c.t, &q, c.off)
		if err != nil || n == 0 {
			return false
		}
		c.off += int64(n)
		c.limit -= uint64(n)
		b = b[n:]
	}
	return true
}

// memory writes pages; those that are zero or cannot be had become holes. False: put's, or
// SIGKILL has come.
func (c *coreFile) memory(at, n uint64) bool {
	s := c.t.space
	for n > 0 {
		start := hal.UserAddr(at)
		skip := uint64(s.NextDumped(start, start+hal.UserAddr(n)) - start)
		have := 0
		for skip == 0 && have < len(c.buf) && uint64(have) < n {
			page := start + hal.UserAddr(have)
			if s.NextDumped(page, page+hal.PageSize) != page {
				break
			}
			b := c.buf[have : have+hal.PageSize]
			if m, _ := s.Peek(c.t, b, page); m < len(b) {
				break
			}
			have += hal.PageSize
		}
		switch {
		case have > 0:
			if !c.put(c.buf[:have]) {
				return false
			}
			skip = uint64(have)
		default:
			skip = max(skip, hal.PageSize)
			c.off += int64(skip)
		}
		at, n = at+skip, n-skip
		if c.steps++; c.steps%corePause == 0 && c.pause() {
			return false
		}
	}
	return true
}

// corePause is after how many steps of writing memory others are let run.
const corePause = 256

// pause lets them, and says whether SIGKILL has ended the writing.
func (c *coreFile) pause() bool {
	return c.t.Block(c.t.Deadline(20_000), wait.Killable) == wait.Kill
}

// segments are the mappings with what coredump_filter says of them (vma_dump_size).
func (t *Thread) segments() []segment {
	filter := t.process.CoreFilter()
	var out []segment
	for _, v := range t.space.Maps(true) {
		s := segment{VMA: v}
		whole := uint64(v.End - v.Start)
		private := !v.Shared && (!v.Object || v.Anonymous > 0)
		switch {
		case v.Name == "[vdso]":
			s.size = whole
		case v.DontDump, v.Name == "[vvar]", v.Prot == 0 && !v.Object && v.Resident == 0:
		case v.Shared && strings.HasSuffix(t.nameOf(&v), " (deleted)"): // nothing else names it
			s.size = whole * uint64(filter/dumpAnonShared&1)
		case v.Shared:
			s.size = whole * uint64(filter/dumpMappedShared&1)
		case private && filter&dumpAnonPrivate != 0:
			s.size = whole
		case !v.Object:
		case filter&dumpMappedPrivate != 0:
			s.size = whole
		case filter&dumpELFHeaders != 0 && v.Offset == 0 && v.Prot&hal.ProtRead != 0:
			var magic [4]byte
			if n, _ := t.space.Peek(t, magic[:], v.Start); n == 4 && string(magic[:]) == "\x7fELF" {
				s.size = hal.PageSize
			}
		}
		out = append(out, s)
	}
	return out
}
