#include "textflag.h"

// func rdmsr(msr uint32) uint64
TEXT ·rdmsr(SB), NOSPLIT, $0-16
	MOVL msr+0(FP), CX
	RDMSR
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+8(FP)
	RET

// func waitUnlooking(ready, sent, word *uint32, timeout *[2]int64) int64
// With interrupts off it says ready, waits for sent, and waits on the futex word, 0, for
// timeout. 1 if sent did not come in good time: who sends it may need us.
TEXT ·waitUnlooking(SB), NOSPLIT, $0-40
	MOVQ ready+0(FP), R8
	MOVQ sent+8(FP), R9
	MOVQ word+16(FP), DI
	MOVQ timeout+24(FP), R10
	MOVL $2000000, CX
	CLI
	MOVL $1, (R8)
again:
	PAUSE
	CMPL (R9), $0
	JNE  wait
	DECL CX
	JNE  again
	MOVL $1, AX
	JMP  done
wait:
	MOVL $202, AX
	MOVL $128, SI
	XORL DX, DX
	SYSCALL
done:
	STI
	MOVQ AX, ret+32(FP)
	RET
