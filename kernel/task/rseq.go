package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// rseqState is what rseq(2) registered.
type rseqState struct {
	word [8]byte // on its way to or from the program: most pre-emptions need it
	addr hal.UserAddr
	sig  uint32
	cpu  int32 // the one written last
}

// Layout of struct rseq and struct rseq_cs (uapi/linux/rseq.h), in bytes.
const (
	// RseqSize is the size and alignment that rseq(2) of Linux 6.1 asks for.
	RseqSize       = 32
	rseqCS         = 8
	rseqFlags      = 16
	rseqCSSize     = 32
	rseqUnregister = 1
)

// Rseq is rseq(2). EINVAL: flags, alignment, size, or not what is registered; EBUSY:
// registered already; EPERM: another signature; EFAULT.
func (t *Thread) Rseq(addr hal.UserAddr, size uint32, flags int32, sig uint32) error {
	r := &t.rseq
	if flags&rseqUnregister != 0 {
		switch {
		case flags&^rseqUnregister != 0, r.addr == 0, r.addr != addr, size != RseqSize:
			return unix.EINVAL
		case r.sig != sig:
			return unix.EPERM
		}
		if err := t.putRseqCPU(0, ^uint32(0)); err != nil {
			return err
		}
		*r = rseqState{cpu: -1}
		return nil
	}
	switch {
	case flags != 0:
		return unix.EINVAL
	case r.addr != 0 && (r.addr != addr || size != RseqSize):
		return unix.EINVAL
	case r.addr != 0 && r.sig != sig:
		return unix.EPERM
	case r.addr != 0:
		return unix.EBUSY
	case addr&(RseqSize-1) != 0 || size != RseqSize:
		return unix.EINVAL
	case addr >= hal.UserTop:
		return unix.EFAULT
	}
	// No critical section is in force, whatever lies there.
	var none [8]byte
	if t.CopyOut(addr+rseqCS, none[:]) != nil {
		return unix.EFAULT
	}
	r.addr, r.sig, r.cpu = addr, sig, -1
	t.flags.Or(fRseq)
	return nil
}

func (t *Thread) putRseqCPU(start, cpu uint32) error {
	b := t.rseq.word[:]
	binary.LittleEndian.PutUint32(b[0:], start)
	binary.LittleEndian.PutUint32(b[4:], cpu)
	return t.CopyOut(t.rseq.addr, b)
}

// switched is called by the thread when it got a token again: the number that rseq
// shows may be wrong now. preempted says that it was in the middle of the program.
func (t *Thread) switched(preempted bool) {
	if t.rseq.addr != 0 && (preempted || t.rseq.cpu != t.cpu.Load()) {
		t.flags.Or(fRseq)
	}
}

// fixRseq aborts a critical section that the thread was taken out of and publishes
// the CPU number (Linux' __rseq_handle_notify_resume). Memory that is not what rseq(2)
// describes is SIGSEGV.
func (t *Thread) fixRseq() {
	t.flags.And(^fRseq)
	r := &t.rseq
	if r.addr == 0 {
		return
	}
	ok := t.abortSection()
	if cpu := t.cpu.Load(); ok && cpu != r.cpu {
		ok = t.putRseqCPU(uint32(cpu), uint32(cpu)) == nil
		r.cpu = cpu
	}
	if !ok {
		r.addr = 0
		t.force(SignalInfo{Signo: int32(unix.SIGSEGV), Code: SIKernel})
	}
}

func (t *Thread) abortSection() bool {
	le := binary.LittleEndian
	p := t.rseq.word[:]
	if n, _ := t.hw.CopyIn(p, t.rseq.addr+rseqCS); n < len(p) && t.CopyIn(p, t.rseq.addr+rseqCS) != nil {
		return false
	}
	at := le.Uint64(p)
	if at == 0 {
		return true
	}
	var cs [rseqCSSize]byte
	if at >= uint64(hal.UserTop) || t.CopyIn(cs[:], hal.UserAddr(at)) != nil {
		return false
	}
	start, length, abort := le.Uint64(cs[8:]), le.Uint64(cs[16:]), le.Uint64(cs[24:])
	top := uint64(hal.UserTop)
	if le.Uint32(cs[0:]) != 0 || start >= top || start+length >= top || start+length < start || abort >= top || abort-start < length {
		return false
	}
	var sig [4]byte
	if abort < 4 || t.CopyIn(sig[:], hal.UserAddr(abort-4)) != nil || le.Uint32(sig[:]) != t.rseq.sig {
		return false
	}
	if le.Uint32(cs[4:]) != 0 {
		return false // flags are gone since Linux 6.0
	}
	inside := t.Ctx.RIP-start < length
	clear(p)
	if t.CopyOut(t.rseq.addr+rseqCS, p) != nil {
		return false
	}
	if inside {
		t.Ctx.RIP = abort
	}
	return true
}
