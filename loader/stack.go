package loader

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
)

// Entries of the auxiliary vector (linux/auxvec.h).
const (
	atNull         = 0
	atPhdr         = 3
	atPhent        = 4
	atPhnum        = 5
	atPagesz       = 6
	atBase         = 7
	atFlags        = 8
	atEntry        = 9
	atUID          = 11
	atEUID         = 12
	atGID          = 13
	atEGID         = 14
	atPlatform     = 15
	atHWCAP        = 16
	atClktck       = 17
	atSecure       = 23
	atRandom       = 25
	atHWCAP2       = 26
	atExecfn       = 31
	atSysinfoEhdr  = 33
	atMinsigstksz  = 51
	auxEntries     = 22 // with the terminator, at most
	hwcap2FSGSBASE = 2
	platform       = "x86_64"
)

// stack is the initial stack: from the top down eight zero bytes, the file name, the
// environment's strings, the arguments', up to 8 KB of chance, "x86_64", 16 random
// bytes, padding to 16, the auxiliary vector, the environment's pointers, the
// arguments', argc. (create_elf_tables in Linux' fs/binfmt_elf.c.)
type stack struct {
	l                  *loading
	top                uint64
	execfn, env, arg   uint64 // where the strings begin
	platform, rand, sp uint64
	out                []byte // what was not copied out yet, from outAt on
	outAt              uint64
}

func sum(list []string) (n uint64) {
	for _, s := range list {
		n += uint64(len(s) + 1)
	}
	return n
}

// newStack computes the layout and maps the stack.
func (l *loading) newStack() (*stack, error) {
	st := &stack{l: l, top: l.rnd.stackTop()}
	st.execfn = st.top - 8 - uint64(len(l.a.filename)+1)
	st.env = st.execfn - sum(l.a.env)
	st.arg = st.env - sum(l.a.argv)
	st.platform = (st.arg-l.rnd.below(8192))&^15 - uint64(len(platform)+1)
	st.rand = st.platform - 16
	items := uint64(1+len(l.a.argv)+1+len(l.a.env)+1) + 2*auxEntries
	st.sp = (st.rand - 8*items) &^ 15

	base := pageDown(st.sp)
	if limit := st.top - pageDown(min(l.r.Limits.Stack, top/2)); base > limit {
		base = max(base-stackSlack, limit)
	}
	p := hal.ProtRead | hal.ProtWrite
	if l.img.ExecStack {
		p |= hal.ProtExec
	}
	_, err := l.s.Mmap(l.c, mm.MapArgs{Addr: hal.UserAddr(base), Len: st.top - base, Prot: p, Name: "[stack]",
		Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED | unix.MAP_GROWSDOWN | unix.MAP_STACK})
	return st, err
}

// mapVDSO puts the vDSO above the stack, within the 2 MB that end there, or where mmap
// likes (vdso_addr in Linux' arch/x86/entry/vdso/vma.c).
func (l *loading) mapVDSO(st *stack) error {
	var hint uint64
	if !l.rnd.off {
		const pmd = 2 << 20
		n := uint64(l.r.VDSO.Len())
		start := pageUp(st.sp)
		if end := min((start+n+pmd-1)&^(pmd-1), top) - n; end > start {
			hint = start + l.rnd.below((end-start)>>hal.PageShift+1)<<hal.PageShift
		}
	}
	at, err := l.r.VDSO.Map(l.c, l.s, hal.UserAddr(hint))
	l.img.VDSO = at
	return err
}

// finish writes the stack and describes it in the image.
func (st *stack) finish() error {
	l := st.l
	if err := st.writeStrings(); err != nil {
		return err
	}
	l.img.Auxv = st.auxv()
	if err := st.writeVectors(); err != nil {
		return err
	}
	l.img.SP, l.img.StackStart = hal.UserAddr(st.sp), hal.UserAddr(st.sp)
	l.img.Args = Range{hal.UserAddr(st.arg), hal.UserAddr(st.env)}
	l.img.Envs = Range{hal.UserAddr(st.env), hal.UserAddr(st.execfn)}
	return nil
}

const chunk = 16 << 10

func (st *stack) start(at uint64) { st.out, st.outAt = st.out[:0], at }

func (st *stack) flush() error {
	_, err := st.l.s.CopyOut(st.l.c, hal.UserAddr(st.outAt), st.out)
	st.start(st.outAt + uint64(len(st.out)))
	return err
}

func (st *stack) str(s string) error {
	for len(s) > chunk {
		st.out = append(st.out, s[:chunk]...)
		s = s[chunk:]
		if err := st.flush(); err != nil {
			return err
		}
	}
	if st.out = append(append(st.out, s...), 0); len(st.out) < chunk {
		return nil
	}
	return st.flush()
}

func (st *stack) word(w uint64) error {
	if st.out = binary.LittleEndian.AppendUint64(st.out, w); len(st.out) < chunk {
		return nil
	}
	return st.flush()
}

func (st *stack) writeStrings() error {
	st.start(st.rand)
	st.out = append(st.out, st.l.rnd.take(16)...) // random whatever the layout
	if err := st.str(platform); err != nil {
		return err
	}
	if err := st.flush(); err != nil {
		return err
	}
	st.start(st.arg)
	for _, list := range [][]string{st.l.a.argv, st.l.a.env, {st.l.a.filename}} {
		for _, s := range list {
			if err := st.str(s); err != nil {
				return err
			}
		}
	}
	return st.flush()
}

func (st *stack) writeVectors() error {
	st.start(st.sp)
	if err := st.word(uint64(len(st.l.a.argv))); err != nil {
		return err
	}
	at := st.arg
	for _, list := range [][]string{st.l.a.argv, st.l.a.env} {
		for _, s := range list {
			if err := st.word(at); err != nil {
				return err
			}
			at += uint64(len(s) + 1)
		}
		if err := st.word(0); err != nil {
			return err
		}
	}
	st.out = append(st.out, st.l.img.Auxv...)
	return st.flush()
}

// minSigStack is AT_MINSIGSTKSZ: the largest signal frame with this machine's vector
// state (get_sigframe_size in Linux' arch/x86/kernel/signal.c).
func minSigStack(fp int) uint64 { return uint64(fp+944+15) &^ 15 }

// auxv is the auxiliary vector in Linux' order.
func (st *stack) auxv() []byte {
	l, r := st.l, st.l.r
	b := make([]byte, 0, 16*auxEntries)
	add := func(tag, v uint64) {
		b = binary.LittleEndian.AppendUint64(b, tag)
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	if l.img.VDSO != 0 {
		add(atSysinfoEhdr, uint64(l.img.VDSO))
	}
	add(atMinsigstksz, minSigStack(r.Features.FPSize))
	add(atHWCAP, uint64(r.Features.HWCAP))
	add(atPagesz, hal.PageSize)
	add(atClktck, 100)
	add(atPhdr, l.phdr)
	add(atPhent, phSize)
	add(atPhnum, uint64(l.h.phnum))
	add(atBase, uint64(l.img.InterpBase))
	add(atFlags, 0)
	add(atEntry, l.entry)
	add(atUID, uint64(r.UID))
	add(atEUID, uint64(r.EUID))
	add(atGID, uint64(r.GID))
	add(atEGID, uint64(r.EGID))
	secure := uint64(0)
	if r.Secure {
		secure = 1
	}
	add(atSecure, secure)
	add(atRandom, st.rand)
	hwcap2 := uint64(0)
	if r.Features.FSGSBASE {
		hwcap2 |= hwcap2FSGSBASE
	}
	add(atHWCAP2, hwcap2)
	add(atExecfn, st.execfn)
	add(atPlatform, st.platform)
	add(atNull, 0)
	return b
}
