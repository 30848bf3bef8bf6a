package cbpf

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/bpf"
)

// FuzzRun compares Run with gVisor's interpreter, where that knows the program.
func FuzzRun(f *testing.F) {
	f.Add([]byte{0x28, 0, 0, 0, 12, 0, 0, 0, 0x15, 0, 0, 1, 0, 8, 0, 0, 6, 0, 0, 0, 255, 255, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 60))
	f.Fuzz(func(t *testing.T, raw, packet []byte) { compare(t, raw, packet) })
}

func compare(t *testing.T, raw, packet []byte) (ran bool) {
	if len(raw) < Size || len(raw) > 64*Size || len(packet) > 4096 {
		return false
	}
	insns, ok := Parse(raw)
	if !ok {
		return false
	}
	theirs := append([]bpf.Instruction(nil), insns...)
	for i, in := range theirs {
		if in.K >= offLink && in.OpCode&7 == bpf.Ld || in.OpCode == bpf.Ldx|bpf.Mem && in.K > 15 {
			return false
		}
		Straighten(&theirs[i])
	}
	p, err := bpf.Compile(theirs, false)
	if err != nil {
		return false
	}
	for _, in := range insns {
		// Offsets with X in them may lie in Linux's space of headers; and gVisor shifts by
		// all of X where the processor takes five bits of it.
		if in.OpCode&0xe7 == bpf.Ld|bpf.Ind || in.OpCode&7 == bpf.Alu && (in.OpCode&0xf0 == bpf.Lsh || in.OpCode&0xf0 == bpf.Rsh) {
			return false
		}
	}
	want, err := bpf.Exec[bpf.BigEndian](p, packet)
	if err != nil {
		want = 0
	}
	if got := Run(insns, &Packet{Data: packet}); got != want {
		t.Fatalf("%d, not %d (%v), of\n% x\n% x", got, want, err, raw, packet)
	}
	return true
}

func TestRunDoesWhatTheOtherInterpreterDoes(t *testing.T) {
	ops := []uint16{
		bpf.Ld | bpf.Imm, bpf.Ld | bpf.W | bpf.Abs, bpf.Ld | bpf.H | bpf.Abs, bpf.Ld | bpf.B | bpf.Abs, bpf.Ld | bpf.Mem, bpf.Ld | bpf.Len,
		bpf.Ldx | bpf.Imm, bpf.Ldx | bpf.Mem, bpf.Ldx | bpf.Len, bpf.Ldx | bpf.B | bpf.Msh, bpf.St, bpf.Stx,
		bpf.Alu | bpf.Add, bpf.Alu | bpf.Sub, bpf.Alu | bpf.Mul, bpf.Alu | bpf.Div, bpf.Alu | bpf.Or, bpf.Alu | bpf.And, bpf.Alu | bpf.Neg, bpf.Alu | bpf.Mod, bpf.Alu | bpf.Xor,
		bpf.Alu | bpf.Add | bpf.X, bpf.Alu | bpf.Sub | bpf.X, bpf.Alu | bpf.Mul | bpf.X, bpf.Alu | bpf.Div | bpf.X, bpf.Alu | bpf.Xor | bpf.X,
		bpf.Jmp | bpf.Ja, bpf.Jmp | bpf.Jeq, bpf.Jmp | bpf.Jgt, bpf.Jmp | bpf.Jge, bpf.Jmp | bpf.Jset, bpf.Jmp | bpf.Jgt | bpf.X,
		bpf.Ret | bpf.A, bpf.Ret | bpf.K, bpf.Misc | bpf.Tax, bpf.Misc | bpf.Txa,
	}
	r := rand.New(rand.NewPCG(1, 2))
	ran := 0
	for range 30000 {
		var raw []byte
		for n := 2 + r.IntN(12); n > 0; n-- {
			op := ops[r.IntN(len(ops))]
			if n == 1 {
				op = bpf.Ret | bpf.A
			}
			raw = binary.LittleEndian.AppendUint16(raw, op)
			raw = append(raw, byte(r.IntN(3)), byte(r.IntN(3)))
			raw = binary.LittleEndian.AppendUint32(raw, uint32(r.IntN(16)))
		}
		packet := make([]byte, r.IntN(24))
		for i := range packet {
			packet[i] = byte(r.Uint32())
		}
		if compare(t, raw, packet) {
			ran++
		}
	}
	if ran < 200 {
		t.Errorf("only %d programs ran", ran)
	}
}

func TestAncillaryData(t *testing.T) {
	p := &Packet{Data: []byte{1, 2}, Net: []byte{9}, Link: []byte{7, 8}, Proto: 0x800, Kind: 4, Index: 3, HWType: 772, Mark: 11}
	for k, want := range map[uint32]uint32{
		offAncillary + adProtocol: 0x800, offAncillary + adPktType: 4, offAncillary + adIfIndex: 3, offAncillary + adHaType: 772,
		offAncillary + adMark: 11, offAncillary + adQueue: 0, offNet: 9, offLink + 1: 8, offNet + 1: 0, 5: 0,
	} {
		prog := []bpf.Instruction{{OpCode: bpf.Ld | bpf.B | bpf.Abs, K: k}, {OpCode: bpf.Ret | bpf.A}}
		if got := Run(prog, p); got != want {
			t.Errorf("load from %#x: %d, not %d", k, got, want)
		}
	}
	if Known([]bpf.Instruction{{OpCode: bpf.Ld | bpf.W | bpf.Abs, K: offAncillary + 2}}) {
		t.Error("a value that is none")
	}
}
