#include "textflag.h"

// The program of a stub process, copied into an ELF file of its own by stubImage:
// position-independent, no stack, no data. It begins as the one process that makes the
// stubs (the mother), which no program ever runs in and whose scratch page (BX) is where
// stubs have their control page.
//
// A stub's program can read that page and the code, and can write to neither; what the
// control thread tells the kernel comes from registers alone. Its registers: BX control
// page, R15 last request, R12 commands left, R13 command, R14 its number, BP the result:
// the first error, or a new thread's id.

#define CTL_REQ   0
#define CTL_COUNT 8
#define CTL_CMDS  64
#define CTL_CMD   64

#define MSG       0
#define IOV       64
#define DATA      128
#define CMSG      256
#define FDS       (CMSG+16)

// func stubCode()
TEXT ·stubCode(SB), NOSPLIT|NOFRAME, $0
	// prctl(PR_SET_NO_NEW_PRIVS, 1)
	MOVQ $157, AX
	MOVQ $38, DI
	MOVQ $1, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL

	// mmap(stubControl, controlSize, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)
	MOVQ $9, AX
	MOVQ $0x100000002000, DI
	MOVQ $0x2000, SI
	MOVQ $3, DX
	MOVQ $0x32, R10
	MOVQ $-1, R8
	XORQ R9, R9
	SYSCALL
	MOVQ AX, BX

	// munmap everything below and above: the stack and the host's vDSO
	MOVQ $11, AX
	XORL DI, DI
	MOVQ $0x100000000000, SI
	SYSCALL
	MOVQ $11, AX
	MOVQ $0x100000004000, DI
	MOVQ $0x6fffffffb000, SI
	SYSCALL
	MOVQ AX, DATA(BX)

	// The first word to the kernel: the result.
	JMP  answer

request:
	// recvmsg(motherFD, {iov: DATA, control: CMSG}, 0)
	MOVQ $0, (MSG+0)(BX)
	MOVQ $0, (MSG+8)(BX)
	LEAQ IOV(BX), AX
	MOVQ AX, (MSG+16)(BX)
	MOVQ $1, (MSG+24)(BX)
	LEAQ CMSG(BX), AX
	MOVQ AX, (MSG+32)(BX)
	MOVQ $32, (MSG+40)(BX)
	LEAQ DATA(BX), AX
	MOVQ AX, IOV(BX)
	MOVQ $8, (IOV+8)(BX)
	MOVQ $47, AX
	MOVQ $3, DI
	LEAQ MSG(BX), SI
	XORL DX, DX
	SYSCALL
	CMPQ AX, $-4 // EINTR
	JEQ  request
	CMPQ AX, $0
	JLE  quit

	// getppid(): the kernel, for the stub to compare
	MOVQ $110, AX
	SYSCALL
	MOVQ AX, R13

	// clone(CLONE_PARENT|SIGCHLD): the stub is the kernel's child
	MOVQ  $56, AX
	MOVQ  $0x8011, DI
	XORL  SI, SI
	XORL  DX, DX
	XORL  R10, R10
	XORL  R8, R8
	SYSCALL
	TESTQ AX, AX
	JZ    stub
	MOVQ  AX, DATA(BX)

	// What was received is the stub's alone: close it.
	XORL R12, R12

close:
	MOVQ $3, AX
	MOVL R12, DI
	SYSCALL
	INCL R12
	CMPL R12, $3
	JNE  close

answer:
	// write(motherFD, DATA, 8): the stub's id
	MOVQ $1, AX
	MOVQ $3, DI
	LEAQ DATA(BX), SI
	MOVQ $8, DX
	SYSCALL
	JMP  request

stub:
	// setsid(); prctl(PR_SET_PDEATHSIG, SIGKILL); getppid(); close(motherFD)
	MOVQ $112, AX
	SYSCALL
	MOVQ $157, AX
	MOVQ $1, DI
	MOVQ $9, SI
	SYSCALL

	// A kernel that ended before this says so to nobody.
	MOVQ $110, AX
	SYSCALL
	CMPQ AX, R13
	JNE  quit
	MOVQ $3, AX
	MOVQ $3, DI
	SYSCALL

	// mmap(stubControl, controlSize, PROT_READ, MAP_SHARED|MAP_FIXED, controlFD, 0)
	MOVQ $9, AX
	MOVQ $0x100000002000, DI
	MOVQ $0x2000, SI
	MOVQ $1, DX
	MOVQ $0x11, R10
	MOVQ $1, R8
	XORQ R9, R9
	SYSCALL
	MOVQ AX, BX

	// seccomp(SECCOMP_SET_MODE_FILTER, 0, stubFilter)
	MOVQ  $317, AX
	MOVQ  $1, DI
	XORL  SI, SI
	MOVQ  $0x100000001000, DX
	SYSCALL
	TESTQ AX, AX
	JNZ   quit
	XORL  R15, R15

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
	XORL BP, BP

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
	JNE   check
	TESTQ AX, AX
	JZ    park
	MOVL  AX, BP

check:
	CMPQ  AX, $-4095
	JCS   step
	TESTL BP, BP
	JNZ   step
	MOVL  AX, BP

step:
	ADDQ $CTL_CMD, R13
	DECL R12
	JMP  next

finish:
	MOVQ  $0x100000001ff0, R14
	TESTL BP, BP
	JZ    tell

	// lseek(controlFD, result, SEEK_SET)
	INCQ R14
	MOVQ $8, AX
	MOVQ $1, DI
	MOVL BP, SI
	XORL DX, DX
	SYSCALL

tell:
	// write(doneFD, stubWords, 1)
	MOVQ $1, AX
	MOVQ $2, DI
	MOVQ R14, SI
	MOVQ $1, DX
	SYSCALL
	JMP  wait

quit:
	MOVQ $231, AX
	MOVQ $1, DI
	SYSCALL

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
