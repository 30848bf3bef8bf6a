// Package cbpf reads classic BPF programs as programs give them (struct sock_filter),
// for seccomp and for filters of sockets. gVisor's interpreter runs them.
package cbpf

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/bpf"
)

// Size is the size of an instruction in bytes.
const Size = 8

// Parse decodes instructions; false: a word of the scratch memory is read that was not
// written (check_load_and_stores of net/core/filter.c).
func Parse(raw []byte) ([]bpf.Instruction, bool) {
	insns := make([]bpf.Instruction, len(raw)/Size)
	for i := range insns {
		b := raw[Size*i:]
		insns[i] = bpf.RawInstruction(binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:]))
	}
	return insns, readsWhatItWrote(insns)
}

// Straighten exchanges TAX and TXA.
// Errata: the pinned gVisor's bpf executes TAX as TXA and TXA as TAX. To go with
// the version that does not (the recorded case seccomp tells).
func Straighten(in *bpf.Instruction) {
	switch in.OpCode {
	case bpf.Misc | bpf.Tax:
		in.OpCode = bpf.Misc | bpf.Txa
	case bpf.Misc | bpf.Txa:
		in.OpCode = bpf.Misc | bpf.Tax
	}
}

// readsWhatItWrote says whether no word of the scratch memory is read on a path on which
// it was not written (check_load_and_stores of net/core/filter.c). Jumps go forward only.
func readsWhatItWrote(insns []bpf.Instruction) bool {
	at := make([]uint16, len(insns)) // the words written on every path to it
	for i := range at {
		at[i] = 0xffff
	}
	written := uint16(0)
	join := func(to int) {
		if to < len(at) {
			at[to] &= written
		}
	}
	for i, in := range insns {
		written &= at[i]
		switch in.OpCode {
		case bpf.St, bpf.Stx:
			written |= 1 << (in.K & 15)
		case bpf.Ld | bpf.Mem, bpf.Ldx | bpf.Mem:
			if written&(1<<(in.K&15)) == 0 {
				return false
			}
		case bpf.Jmp | bpf.Ja:
			join(i + 1 + int(min(in.K, uint32(len(at)))))
			written = 0xffff
		default:
			if in.OpCode&7 == bpf.Jmp {
				join(i + 1 + int(in.JumpIfTrue))
				join(i + 1 + int(in.JumpIfFalse))
				written = 0xffff
			}
		}
	}
	return true
}
