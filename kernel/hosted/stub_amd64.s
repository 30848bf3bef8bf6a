#include "textflag.h"

// The program of a stub process, copied into an ELF file of its own by stubImage:
// position-independent, no stack, no data. The registers of the control thread:
// BX control page, R15 last request, R12 commands left, R13 command, R14 its number.

#define CTL_REQ   0
#define CTL_DONE  4
#define CTL_COUNT 8
#define CTL_CMDS  64
#define CTL_CMD   64

// func stubCode()
TEXT ·stubCode(SB), NOSPLIT|NOFRAME, $0
	// mmap(stubControl, controlSize, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, controlFD, 0)
	MOVQ $9, AX
	MOVQ $0x100000002000, DI
	MOVQ $0x2000, SI
	MOVQ $3, DX
	MOVQ $0x11, R10
	MOVQ $4, R8
	XORQ R9, R9
	SYSCALL
	MOVQ AX, BX
	XORL R15, R15

wait:
	MOVL CTL_REQ(BX), AX
	CMPL AX, R15
	JNE  work

	// futex(&req, FUTEX_WAIT, last, NULL)
	MOVQ $202, AX
	MOVQ BX, DI
	XORL SI, SI
	MOVL R15, DX
	XORL R10, R10
	SYSCALL
	JMP  wait

work:
	MOVL AX, R15
	MOVL CTL_COUNT(BX), R12
	LEAQ CTL_CMDS(BX), R13

next:
	TESTL R12, R12
	JZ    finish
	MOVQ  0(R13), AX
	MOVQ  8(R13), DI
	MOVQ  16(R13), SI
	MOVQ  24(R13), DX
	MOVQ  32(R13), R10
	MOVQ  40(R13), R8
	MOVQ  48(R13), R9
	MOVQ  AX, R14
	SYSCALL
	CMPQ  R14, $56
	JNE   store
	TESTQ AX, AX
	JZ    park

store:
	MOVQ AX, 56(R13)
	ADDQ $CTL_CMD, R13
	DECL R12
	JMP  next

finish:
	MOVL R15, CTL_DONE(BX)

	// futex(&done, FUTEX_WAKE, all)
	MOVQ $202, AX
	LEAQ CTL_DONE(BX), DI
	MOVQ $1, SI
	MOVQ $0x7fffffff, DX
	SYSCALL
	JMP  wait

	// A new thread waits here until its tracer gives it registers.
park:
	MOVQ $34, AX
	SYSCALL
	JMP  park

// func stubBases(): WRFSBASE DI; WRGSBASE SI; SYSCALL, for bases that ptrace refuses.
TEXT ·stubBases(SB), NOSPLIT|NOFRAME, $0
	BYTE $0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xd7
	BYTE $0xf3; BYTE $0x48; BYTE $0x0f; BYTE $0xae; BYTE $0xde
	SYSCALL
	UNDEF

// func stubEnd()
TEXT ·stubEnd(SB), NOSPLIT|NOFRAME, $0
	UNDEF

// func stubAddrs() (start, bases, end *byte)
TEXT ·stubAddrs(SB), NOSPLIT, $0-24
	LEAQ ·stubCode(SB), AX
	MOVQ AX, start+0(FP)
	LEAQ ·stubBases(SB), AX
	MOVQ AX, bases+8(FP)
	LEAQ ·stubEnd(SB), AX
	MOVQ AX, end+16(FP)
	RET

// func rdtsc() uint64
TEXT ·rdtsc(SB), NOSPLIT, $0-8
	LFENCE
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
