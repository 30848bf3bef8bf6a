package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Sizes of ELF headers, and of the structures in a core file's notes (linux/elfcore.h), in
// bytes.
const (
	elfEhdr      = 64
	elfPhdr      = 56
	prstatusSize = 336
	prstatusRegs = 112
	prpsinfoSize = 136

	ntPRStatus  = 1
	ntPRFPReg   = 2
	ntPRPSInfo  = 3
	ntAuxv      = 6
	ntX86XState = 0x202
	ntSigInfo   = 0x53494749
	ntFile      = 0x46494c45
)

// coreHeaders are the ELF header and the program headers: the notes, then each mapping.
func coreHeaders(segs []segment, notes int) []byte {
	le := binary.LittleEndian
	n := len(segs) + 1
	b := make([]byte, elfEhdr+elfPhdr*n)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 4)  // ET_CORE
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], elfEhdr)
	le.PutUint16(b[52:], elfEhdr)
	le.PutUint16(b[54:], elfPhdr)
	le.PutUint16(b[56:], uint16(min(n, 0xfffe)))
	ph := b[elfEhdr:]
	le.PutUint32(ph[0:], 4) // PT_NOTE
	le.PutUint64(ph[8:], uint64(len(b)))
	le.PutUint64(ph[32:], uint64(notes))
	at := (uint64(len(b)+notes) + hal.PageMask) &^ hal.PageMask
	for i, s := range segs {
		ph := b[elfEhdr+elfPhdr*(i+1):]
		flags := uint32(0)
		for bit, f := range [3]uint32{4, 2, 1} { // PF_R, PF_W, PF_X
			if s.Prot>>bit&1 != 0 {
				flags |= f
			}
		}
		le.PutUint32(ph[0:], 1) // PT_LOAD
		le.PutUint32(ph[4:], flags)
		le.PutUint64(ph[8:], at)
		le.PutUint64(ph[16:], uint64(s.Start))
		le.PutUint64(ph[32:], s.size)
		le.PutUint64(ph[40:], uint64(s.End-s.Start))
		le.PutUint64(ph[48:], hal.PageSize)
		at += s.size
	}
	return b
}

// note appends one.
func note(b []byte, name string, typ uint32, desc []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(name)+1))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, typ)
	pad := func() {
		for len(b)&3 != 0 {
			b = append(b, 0)
		}
	}
	b = append(append(b, name...), 0)
	pad()
	b = append(b, desc...)
	pad()
	return b
}

// coreNotes are the notes in Linux's order: the thread that died first. The others are held.
func (t *Thread) coreNotes(info *SignalInfo, segs []segment) []byte {
	p := t.process
	b := note(nil, "CORE", ntPRStatus, t.prstatus(info))
	b = note(b, "CORE", ntPRPSInfo, t.prpsinfo())
	si := info.Bytes()
	b = note(b, "CORE", ntSigInfo, si[:])
	if img := p.Image(); img != nil {
		b = note(b, "CORE", ntAuxv, img.Auxv)
	}
	if f := t.mappedFiles(segs); f != nil {
		b = note(b, "CORE", ntFile, f)
	}
	b = t.vectorNotes(b)
	for _, o := range p.Threads() {
		if o != t && o.held {
			b = note(b, "CORE", ntPRStatus, o.prstatus(info))
			b = o.vectorNotes(b)
		}
	}
	return b
}

func (t *Thread) vectorNotes(b []byte) []byte {
	fp := t.FPState()
	b = note(b, "CORE", ntPRFPReg, fp[:fxsaveSize])
	if len(fp) > fxsaveSize {
		b = note(b, "LINUX", ntX86XState, fp)
	}
	return b
}

// prstatus is struct elf_prstatus.
func (t *Thread) prstatus(info *SignalInfo) []byte {
	le, p := binary.LittleEndian, t.process
	b := make([]byte, prstatusSize)
	le.PutUint32(b[0:], uint32(info.Signo))
	le.PutUint32(b[4:], uint32(info.Code))
	le.PutUint32(b[8:], uint32(info.Errno))
	le.PutUint16(b[12:], uint16(info.Signo))
	le.PutUint64(b[16:], uint64(t.Pending()))
	le.PutUint64(b[24:], uint64(t.mask))
	le.PutUint32(b[32:], uint32(t.TID()))
	le.PutUint32(b[36:], uint32(p.PPID()))
	le.PutUint32(b[40:], uint32(p.PGID()))
	le.PutUint32(b[44:], uint32(p.SID()))
	u := t.Usage()
	for i, ns := range [4]int64{u.User, u.System, u.ChildUser, u.ChildSystem} {
		le.PutUint64(b[48+16*i:], uint64(ns/1e9))
		le.PutUint64(b[56+16*i:], uint64(ns%1e9/1e3))
	}
	for i := range NumUserRegs {
		le.PutUint64(b[prstatusRegs+8*i:], t.UserReg(i))
	}
	le.PutUint32(b[prstatusRegs+8*NumUserRegs:], 1) // pr_fpvalid
	return b
}

// prpsinfo is struct elf_prpsinfo.
func (t *Thread) prpsinfo() []byte {
	le, p := binary.LittleEndian, t.process
	b := make([]byte, prpsinfoSize)
	b[1] = 'R'
	c := t.Creds()
	le.PutUint32(b[16:], c.UID)
	le.PutUint32(b[20:], c.GID)
	le.PutUint32(b[24:], uint32(p.pid))
	le.PutUint32(b[28:], uint32(p.PPID()))
	le.PutUint32(b[32:], uint32(p.PGID()))
	le.PutUint32(b[36:], uint32(p.SID()))
	copy(b[40:55], t.Name())
	if img := p.Image(); img != nil {
		args := b[56 : 56+min(79, int(img.ArgEnd-img.ArgStart))]
		n, _ := t.space.Peek(t, args, img.ArgStart)
		for i := range args[:n] {
			if args[i] == 0 {
				args[i] = ' '
			}
		}
	}
	return b
}

// maxFileNote is how long NT_FILE may be (MAX_FILE_NOTE_SIZE): a core without it is better
// than none.
const maxFileNote = 4 << 20

// mappedFiles is NT_FILE: number, page size, start, end and offset in pages of each, names.
func (t *Thread) mappedFiles(segs []segment) []byte {
	le := binary.LittleEndian
	n, names := 0, []byte(nil)
	b := make([]byte, 16)
	for _, s := range segs {
		name := t.nameOf(&s.VMA)
		if !s.Object || name == "" || name[0] != '/' {
			continue
		}
		if len(b)+len(names)+len(name) >= maxFileNote {
			return nil
		}
		n++
		b = le.AppendUint64(b, uint64(s.Start))
		b = le.AppendUint64(b, uint64(s.End))
		b = le.AppendUint64(b, uint64(s.Offset)>>hal.PageShift)
		names = append(append(names, name...), 0)
	}
	if n == 0 {
		return nil
	}
	le.PutUint64(b[0:], uint64(n))
	le.PutUint64(b[8:], hal.PageSize)
	return append(b, names...)
}

// endInfo is the code and status of SIGCHLD and waitid for a wait status of an end.
func endInfo(status uint32) (code, value int32) {
	switch sig := unix.Signal(status & 0x7f); {
	case sig == 0:
		return cldExited, int32(status >> 8 & 0xff)
	case status&0x80 != 0:
		return cldDumped, int32(sig)
	default:
		return cldKilled, int32(sig)
	}
}
