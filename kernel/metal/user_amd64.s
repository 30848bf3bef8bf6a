#include "go_asm.h"
#include "textflag.h"

// Ring 3: in, out, and the only code that touches program memory.

#define SETFS \
	CMPB	·feat+cpuFeat_fsgsbase(SB), $0; \
	JEQ	3(PC); \
	WRFSBASEQ	AX; \
	JMP	5(PC); \
	MOVQ	AX, DX; \
	SHRQ	$32, DX; \
	MOVL	$const_msrFSBase, CX; \
	WRMSR

// Vector state. The kernel and the base use XMM0-15 and MXCSR only (TestVectorCode),
// so an exit from ring 3 saves those alone; x87, the upper halves of YMM and all else
// that XSAVE knows stay in the processor. Invariant: a context's state is wholly in its
// FP area when ctxImpl.live is 0; else live is the CPU, that CPU's owner is the context,
// and the area has its XMM and MXCSR while the rest of it is old. Enter of the owner
// loads XMM; Enter of another completes the owner's area and loads the other's whole.
// Whoever reads or changes an area calls SyncFP first. enter refuses a context that is
// live on another CPU (elsewhere): Enter makes that CPU complete it then (fpAway).

#define LOADXMM(r) \
	LDMXCSR	24(r); \
	MOVAPS	160(r), X0; \
	MOVAPS	176(r), X1; \
	MOVAPS	192(r), X2; \
	MOVAPS	208(r), X3; \
	MOVAPS	224(r), X4; \
	MOVAPS	240(r), X5; \
	MOVAPS	256(r), X6; \
	MOVAPS	272(r), X7; \
	MOVAPS	288(r), X8; \
	MOVAPS	304(r), X9; \
	MOVAPS	320(r), X10; \
	MOVAPS	336(r), X11; \
	MOVAPS	352(r), X12; \
	MOVAPS	368(r), X13; \
	MOVAPS	384(r), X14; \
	MOVAPS	400(r), X15

#define SAVEXMM(r) \
	STMXCSR	24(r); \
	MOVAPS	X0, 160(r); \
	MOVAPS	X1, 176(r); \
	MOVAPS	X2, 192(r); \
	MOVAPS	X3, 208(r); \
	MOVAPS	X4, 224(r); \
	MOVAPS	X5, 240(r); \
	MOVAPS	X6, 256(r); \
	MOVAPS	X7, 272(r); \
	MOVAPS	X8, 288(r); \
	MOVAPS	X9, 304(r); \
	MOVAPS	X10, 320(r); \
	MOVAPS	X11, 336(r); \
	MOVAPS	X12, 352(r); \
	MOVAPS	X13, 368(r); \
	MOVAPS	X14, 384(r); \
	MOVAPS	X15, 400(r)

// SAVEALL completes the area of DI, a *ctxImpl whose state is live here. Clobbers AX,
// DX, R8, XMM0-15, MXCSR. XSAVEOPT is safe (SDM 1 13.9): each save follows a restore from
// the same place, in which nothing but XMM and MXCSR was written since.
#define SAVEALL \
	MOVQ	ctxImpl_fp(DI), R8; \
	LOADXMM(R8); \
	MOVL	$7, AX; \
	XORL	DX, DX; \
	CMPB	·feat+cpuFeat_xsave(SB), $const_xsaveSSE; \
	JCS	5(PC); \
	CMPB	·feat+cpuFeat_xsave(SB), $const_xsaveOpt; \
	JEQ	5(PC); \
	XSAVE64	(R8); \
	JMP	4(PC); \
	FXSAVE64	(R8); \
	JMP	2(PC); \
	XSAVEOPT64	(R8); \
	MOVQ	$0, ctxImpl_live(DI)

// FPDROP ends this CPU's ownership of DI's state, saving it if keep.
#define FPDROP(keep) \
	MOVQ	ctxImpl_live(DI), AX; \
	CMPQ	AX, CPU_self(GS); \
	JNE	out; \
	MOVQ	$0, CPU_owner(GS); \
	CMPB	keep, $0; \
	JEQ	forget; \
	SAVEALL; \
	LDMXCSR	·goMXCSR(SB); \
forget: \
	MOVQ	$0, ctxImpl_live(DI); \
out:

// fpSync(impl, keep): if impl's state is live on this CPU, it is no longer: completed
// in its area, or forgotten without keep.
TEXT ·fpSync(SB),NOSPLIT|NOFRAME,$0-9
	CLI
	MOVQ	8(SP), DI
	FPDROP(16(SP))
	STI
	RET

// fpLocal is fpSync for the base, where interrupts are off and stay so.
TEXT ·fpLocal(SB),NOSPLIT|NOFRAME,$0-9
	MOVQ	8(SP), DI
	FPDROP(16(SP))
	RET

// LOADROOT makes AX the CPU's page table, interrupts being off. While it is on its way,
// CPU.root says so by 0 (concerned in shoot.go): three instructions.
#define LOADROOT \
	MOVQ	$0, CPU_root(GS); \
	MOVQ	AX, CR3; \
	MOVQ	AX, CPU_root(GS)

// enter(ctx, impl, as) ret. The goroutine's stack is not written to after CLI:
// an exit from ring 3 is a return from this function on it.
TEXT ·enter(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ	8(SP), R15		// *hal.Ctx
	MOVQ	16(SP), R14		// *ctxImpl
	MOVQ	24(SP), R13		// *AddressSpace
	CLI
	// Invariant: what is latched before this test is served before ring 3 runs.
	CMPL	·irqs+irqWords_any(SB), $0
	JNE	interrupted
	CMPL	CPU_slice(GS), $0
	JEQ	needslice
	// cpu is published before intr is read; Interrupt does it the other way round. XCHG
	// orders the two.
	MOVL	CPU_id(GS), AX
	INCL	AX
	XCHGL	AX, ctxImpl_cpu(R14)
	CMPQ	ctxImpl_intr(R14), $0	// and want
	JNE	asked
ready:
	// IRETQ and SYSRET to a non-canonical address fault at ring 0, as does loading one into
	// FS or GS: never try. Mostly all three are in the lower half.
	MOVQ	const_ctxRIP(R15), SI
	MOVQ	const_ctxFSBase(R15), BX
	MOVQ	const_ctxGSBase(R15), R12
	MOVQ	SI, AX
	ORQ	BX, AX
	ORQ	R12, AX
	SHRQ	$47, AX
	JNE	upper
canonical:
	MOVQ	AddressSpace_root(R13), AX
	CMPQ	AX, CPU_root(GS)
	JNE	newroot
sameroot:
	MOVQ	BP, ctxImpl_bp(R14)
	MOVQ	SP, CPU_enterSP(GS)
	MOVQ	R15, CPU_ctx(GS)
	MOVQ	R14, CPU_impl(GS)
	MOVQ	ctxImpl_fp(R14), SI
	MOVQ	ctxImpl_live(R14), AX
	CMPQ	AX, CPU_self(GS)
	JNE	notlive
	LOADXMM(SI)
segs:
	// The way out is chosen while GS is still the CPU's.
	MOVQ	const_ctxRIP(R15), SI
	MOVQ	const_ctxRFLAGS(R15), R10
	CMPQ	R10, const_ctxR11(R15)
	JNE	slow
	CMPQ	SI, const_ctxRCX(R15)
	JNE	slow
	TESTL	$0x10100, R10		// RF, TF: SYSRET would lose or misplace them
	JNE	slow
	ANDL	$const_userFlags, R10
	ORL	$0x202, R10
	CMPB	·feat+cpuFeat_fsgsbase(SB), $0
	JEQ	msr1
	WRFSBASEQ	BX
	SWAPGS
	WRGSBASEQ	R12
fast:
	MOVQ	R15, SP
	MOVQ	SI, CX
	MOVQ	R10, R11
	MOVQ	const_ctxR15(SP), R15
	MOVQ	const_ctxR14(SP), R14
	MOVQ	const_ctxR13(SP), R13
	MOVQ	const_ctxR12(SP), R12
	MOVQ	const_ctxRBP(SP), BP
	MOVQ	const_ctxRBX(SP), BX
	MOVQ	const_ctxR10(SP), R10
	MOVQ	const_ctxR9(SP), R9
	MOVQ	const_ctxR8(SP), R8
	MOVQ	const_ctxRAX(SP), AX
	MOVQ	const_ctxRDX(SP), DX
	MOVQ	const_ctxRSI(SP), SI
	MOVQ	const_ctxRDI(SP), DI
	MOVQ	const_ctxRSP(SP), SP
	BYTE	$0x48; SYSRET
msr1:
	MOVQ	BX, AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrFSBase, CX
	WRMSR
	MOVQ	R12, AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrKernelGSBase, CX
	WRMSR
	SWAPGS
	JMP	fast

newroot:
	MOVQ	CPU_cur(GS), R11
	MOVQ	AX, M_root(R11)
	LOADROOT
	JMP	sameroot
upper:
	SHRQ	$47, SI
	JNE	badrip
	MOVQ	BX, AX
	SHLQ	$16, AX
	SARQ	$16, AX
	CMPQ	AX, BX
	JNE	badrip
	MOVQ	R12, AX
	SHLQ	$16, AX
	SARQ	$16, AX
	CMPQ	AX, R12
	JNE	badrip
	JMP	canonical

slow:
	// The IRETQ frame is the M's own trap frame: the next trap overwrites it.
	MOVQ	CPU_cur(GS), R11
	ANDL	$const_userFlags, R10
	ORL	$0x202, R10
	MOVQ	SI, 136(R11)
	MOVQ	$const_selUCode, 144(R11)
	MOVQ	R10, 152(R11)
	MOVQ	const_ctxRSP(R15), AX
	MOVQ	AX, 160(R11)
	MOVQ	$const_selUData, 168(R11)
	CMPB	·feat+cpuFeat_fsgsbase(SB), $0
	JEQ	msr2
	WRFSBASEQ	BX
	SWAPGS
	WRGSBASEQ	R12
slow2:
	LEAQ	136(R11), SP
	MOVQ	const_ctxR14(R15), R14
	MOVQ	const_ctxR13(R15), R13
	MOVQ	const_ctxR12(R15), R12
	MOVQ	const_ctxRBP(R15), BP
	MOVQ	const_ctxRBX(R15), BX
	MOVQ	const_ctxR11(R15), R11
	MOVQ	const_ctxR10(R15), R10
	MOVQ	const_ctxR9(R15), R9
	MOVQ	const_ctxR8(R15), R8
	MOVQ	const_ctxRAX(R15), AX
	MOVQ	const_ctxRCX(R15), CX
	MOVQ	const_ctxRDX(R15), DX
	MOVQ	const_ctxRSI(R15), SI
	MOVQ	const_ctxRDI(R15), DI
	MOVQ	const_ctxR15(R15), R15
	IRETQ
msr2:
	MOVQ	BX, AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrFSBase, CX
	WRMSR
	MOVQ	R12, AX
	MOVQ	AX, DX
	SHRQ	$32, DX
	MOVL	$const_msrKernelGSBase, CX
	WRMSR
	SWAPGS
	JMP	slow2

notlive:
	TESTQ	AX, AX
	JNE	elsewhere
	MOVQ	CPU_owner(GS), DI
	TESTQ	DI, DI
	JEQ	free
	SAVEALL
free:
	CMPB	·feat+cpuFeat_xsave(SB), $0
	JEQ	fx
	MOVL	$7, AX
	XORL	DX, DX
	XRSTOR64	(SI)
	JMP	live
fx:
	FXRSTOR64	(SI)
live:
	MOVQ	CPU_self(GS), AX
	MOVQ	AX, ctxImpl_live(R14)
	MOVQ	R14, CPU_owner(GS)
	JMP	segs
elsewhere:
	MOVL	$0, ctxImpl_cpu(R14)
	MOVQ	$0, CPU_ctx(GS)
	MOVQ	$2, 32(SP)
	STI
	RET

asked:
	CMPL	ctxImpl_intr(R14), $0
	JNE	intr
	MOVL	ctxImpl_want(R14), AX
	DECL	AX
	CMPL	AX, CPU_id(GS)
	JEQ	ready
	MOVL	$0, ctxImpl_cpu(R14)
	MOVQ	$3, 32(SP)
	STI
	RET
intr:
	MOVL	$0, ctxImpl_cpu(R14)
interrupted:
	// A barrier: what Interrupt's caller did before it called is seen after this, or
	// intr stays set.
	XORL	AX, AX
	XCHGL	AX, ctxImpl_intr(R14)
	MOVB	$3, const_ctxKind(R15)
	MOVQ	$0, 32(SP)
	STI
	RET
badrip:
	// As the processor would: #GP(0) at the instruction that cannot be fetched.
	MOVL	$0, ctxImpl_cpu(R14)
	MOVB	$2, const_ctxKind(R15)
	MOVB	$13, const_ctxVector(R15)
	MOVQ	$0, const_ctxError(R15)
	MOVQ	$0, const_ctxAddr(R15)
	MOVQ	$0, 32(SP)
	STI
	RET
needslice:
	MOVQ	$1, 32(SP)
	STI
	RET

// SAVEUSER: R15 = ctx, its general registers are saved. Saves XMM, MXCSR and segment
// bases, loads the kernel's. Leaves R14 = impl. Clobbers AX, CX, DX, SI. An MXCSR
// that differs from Go's by sticky flags alone may stay.
#define SAVEUSER \
	MOVQ	CPU_impl(GS), R14; \
	MOVQ	ctxImpl_fp(R14), SI; \
	SAVEXMM(SI); \
	MOVL	24(SI), AX; \
	ANDL	$~0x3f, AX; \
	CMPL	AX, $0x1f80; \
	JEQ	2(PC); \
	LDMXCSR	·goMXCSR(SB); \
	CMPB	·feat+cpuFeat_fsgsbase(SB), $0; \
	JEQ	msrbase; \
	RDFSBASEQ	AX; \
	MOVQ	AX, const_ctxFSBase(R15); \
	SWAPGS; \
	RDGSBASEQ	AX; \
	SWAPGS; \
	MOVQ	AX, const_ctxGSBase(R15); \
	MOVQ	CPU_cur(GS), AX; \
	MOVQ	M_fs(AX), AX; \
	WRFSBASEQ	AX; \
saved: \
	MOVL	$0, ctxImpl_cpu(R14); \
	MOVQ	$0, CPU_ctx(GS)

// SAVEMSR is the way of SAVEUSER on processors without FSGSBASE. All that ring 3 can do to a
// base there is to clear it with a selector, which Linux does not keep either for a null one:
// each way in loads both.
#define SAVEMSR \
msrbase: \
	MOVQ	CPU_cur(GS), AX; \
	MOVQ	M_fs(AX), AX; \
	MOVQ	AX, DX; \
	SHRQ	$32, DX; \
	MOVL	$const_msrFSBase, CX; \
	WRMSR; \
	JMP	saved

DATA ·goMXCSR+0(SB)/4, $0x1f80
GLOBL ·goMXCSR(SB), RODATA|NOPTR, $4

// sysUser: SYSCALL from ring 3. RCX = RIP, R11 = RFLAGS, SP is the program's.
TEXT ·sysUser(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SWAPGS
	MOVQ	SP, CPU_scratch(GS)
	MOVQ	CPU_ctx(GS), SP
	MOVQ	R15, const_ctxR15(SP)
	MOVQ	R14, const_ctxR14(SP)
	MOVQ	R13, const_ctxR13(SP)
	MOVQ	R12, const_ctxR12(SP)
	MOVQ	BP, const_ctxRBP(SP)
	MOVQ	BX, const_ctxRBX(SP)
	MOVQ	R11, const_ctxR11(SP)
	MOVQ	R10, const_ctxR10(SP)
	MOVQ	R9, const_ctxR9(SP)
	MOVQ	R8, const_ctxR8(SP)
	MOVQ	AX, const_ctxRAX(SP)
	MOVQ	CX, const_ctxRCX(SP)
	MOVQ	DX, const_ctxRDX(SP)
	MOVQ	SI, const_ctxRSI(SP)
	MOVQ	DI, const_ctxRDI(SP)
	MOVQ	CX, const_ctxRIP(SP)
	MOVQ	R11, const_ctxRFLAGS(SP)
	MOVQ	CPU_scratch(GS), AX
	MOVQ	AX, const_ctxRSP(SP)
	MOVQ	SP, R15
	MOVQ	CPU_enterSP(GS), SP
	SAVEUSER
	MOVB	$1, const_ctxKind(R15)
	MOVQ	ctxImpl_bp(R14), BP
	MOVQ	$0, 32(SP)
	JMP	·enterRet(SB)
	SAVEMSR

// enterRet returns from enter: SP and BP are the goroutine's, IF=0.
TEXT ·enterRet(SB),NOSPLIT|NOFRAME,$0-32
	STI
	RET

// isrUser: exception or interrupt in ring 3. SP is at Vector in the M's frame,
// GS = CPU.
TEXT ·isrUser(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVQ	AX, CPU_scratch(GS)
	MOVQ	CPU_ctx(GS), AX
	MOVQ	R15, const_ctxR15(AX)
	MOVQ	R14, const_ctxR14(AX)
	MOVQ	R13, const_ctxR13(AX)
	MOVQ	R12, const_ctxR12(AX)
	MOVQ	BP, const_ctxRBP(AX)
	MOVQ	BX, const_ctxRBX(AX)
	MOVQ	R11, const_ctxR11(AX)
	MOVQ	R10, const_ctxR10(AX)
	MOVQ	R9, const_ctxR9(AX)
	MOVQ	R8, const_ctxR8(AX)
	MOVQ	CX, const_ctxRCX(AX)
	MOVQ	DX, const_ctxRDX(AX)
	MOVQ	SI, const_ctxRSI(AX)
	MOVQ	DI, const_ctxRDI(AX)
	MOVQ	AX, R15
	MOVQ	CPU_scratch(GS), AX
	MOVQ	AX, const_ctxRAX(R15)
	MOVQ	16(SP), AX
	MOVQ	AX, const_ctxRIP(R15)
	MOVQ	32(SP), AX
	MOVQ	AX, const_ctxRFLAGS(R15)
	MOVQ	40(SP), AX
	MOVQ	AX, const_ctxRSP(R15)
	MOVBLZX	0(SP), BX		// vector
	MOVQ	8(SP), R13		// error code
	MOVQ	CR2, R12
	SAVEUSER
	CMPL	BX, $32
	JCC	irq
	MOVB	$2, const_ctxKind(R15)
	MOVB	BX, const_ctxVector(R15)
	MOVQ	R13, const_ctxError(R15)
	MOVQ	R12, const_ctxAddr(R15)
	MOVQ	CPU_enterSP(GS), SP
	MOVQ	ctxImpl_bp(R14), BP
	MOVQ	$0, 32(SP)
	JMP	·enterRet(SB)
irq:
	// The M continues as if Enter had returned; the base may run others first.
	MOVB	$3, const_ctxKind(R15)
	MOVQ	CPU_enterSP(GS), AX
	MOVQ	$0, 32(AX)
	MOVQ	CPU_cur(GS), SP
	MOVQ	AX, 160(SP)
	LEAQ	·enterRet(SB), AX
	MOVQ	AX, 136(SP)
	MOVQ	$const_selKCode, 144(SP)
	MOVQ	$2, 152(SP)
	MOVQ	$const_selKData, 168(SP)
	MOVQ	ctxImpl_bp(R14), AX
	MOVQ	AX, 32(SP)
	MOVQ	BX, 120(SP)
	MOVL	$1, M_user(SP)
	XORL	AX, AX
	XCHGL	AX, ctxImpl_intr(R14)	// as at interrupted
	JMP	·toBase(SB)
	SAVEMSR

// ---- user copy ----------------------------------------------------------------
// Between copyStart and copyEnd a fault on a program address makes the base
// continue at copyFault with RAX = the address; SP is as on entry, RCX = bytes
// left. Nothing here pushes. The address space is made current first: CR3 belongs
// to the M, so it cannot change under the copy.

TEXT ·copyStart(SB),NOSPLIT|NOFRAME,$0
	RET

// USEAS: R13 = *AddressSpace; makes it this M's. Clobbers AX, CX, DX, R11. While an M
// runs, its root is the CPU's (switchTo), and nobody else changes it: the comparison
// stays true without CLI, over a preemption too.
#define USEAS \
	MOVQ	AddressSpace_root(R13), AX; \
	CMPQ	AX, CPU_root(GS); \
	JEQ	8(PC); \
	CLI; \
	MOVQ	CPU_cur(GS), R11; \
	MOVQ	AX, M_root(R11); \
	LOADROOT; \
	STI

#define USEROK \
	CMPB	·feat+cpuFeat_smap(SB), $0; \
	JEQ	2(PC); \
	STAC

#define USERNO \
	CMPB	·feat+cpuFeat_smap(SB), $0; \
	JEQ	2(PC); \
	CLAC

TEXT ·userCopyIn(SB),NOSPLIT|NOFRAME,$0-48
	JMP	·userCopy(SB)

TEXT ·userCopyOut(SB),NOSPLIT|NOFRAME,$0-48
	JMP	·userCopy(SB)

// userCopy(as, dst, src, n) (left, fault). Up to 256 bytes go by moves, which start sooner
// than string instructions (of general registers: under TCG an XMM costs three times as
// much). RCX is what is left before a step; the last step of a copy
// ends at its end and overlaps what was copied before. A step is 32 bytes at most.
TEXT ·userCopy(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ	8(SP), R13
	USEAS
	MOVQ	16(SP), DI
	MOVQ	24(SP), SI
	MOVQ	32(SP), CX
	XORL	R9, R9			// counting bytes
	USEROK
	CMPQ	CX, $32
	JCS	under32
	CMPQ	CX, $256
	JHI	strings
chunk:
	MOVQ	0(SI), AX
	MOVQ	8(SI), DX
	MOVQ	16(SI), R8
	MOVQ	24(SI), R10
	MOVQ	AX, 0(DI)
	MOVQ	DX, 8(DI)
	MOVQ	R8, 16(DI)
	MOVQ	R10, 24(DI)
	ADDQ	$32, SI
	ADDQ	$32, DI
	SUBQ	$32, CX
	CMPQ	CX, $32
	JCC	chunk
	TESTQ	CX, CX
	JEQ	done
	MOVQ	-32(SI)(CX*1), AX
	MOVQ	-24(SI)(CX*1), DX
	MOVQ	-16(SI)(CX*1), R8
	MOVQ	-8(SI)(CX*1), R10
	MOVQ	AX, -32(DI)(CX*1)
	MOVQ	DX, -24(DI)(CX*1)
	MOVQ	R8, -16(DI)(CX*1)
	MOVQ	R10, -8(DI)(CX*1)
done:
	USERNO
	MOVQ	$0, 40(SP)
	MOVQ	$0, 48(SP)
	RET
under32:
	CMPQ	CX, $16
	JCS	under16
	MOVQ	(SI), AX
	MOVQ	8(SI), DX
	MOVQ	-16(SI)(CX*1), R8
	MOVQ	-8(SI)(CX*1), R10
	MOVQ	AX, (DI)
	MOVQ	DX, 8(DI)
	MOVQ	R8, -16(DI)(CX*1)
	MOVQ	R10, -8(DI)(CX*1)
	JMP	done
under16:
	CMPQ	CX, $8
	JCS	under8
	MOVQ	(SI), AX
	MOVQ	-8(SI)(CX*1), DX
	MOVQ	AX, (DI)
	MOVQ	DX, -8(DI)(CX*1)
	JMP	done
under8:
	CMPQ	CX, $4
	JCS	under4
	MOVL	(SI), AX
	MOVL	-4(SI)(CX*1), DX
	MOVL	AX, (DI)
	MOVL	DX, -4(DI)(CX*1)
	JMP	done
under4:
	TESTQ	CX, CX
	JEQ	done
one:
	MOVB	(SI), AX
	MOVB	AX, (DI)
	INCQ	SI
	INCQ	DI
	DECQ	CX
	JNE	one
	JMP	done
strings:
	CLD
	MOVQ	CX, R8
	SHRQ	$3, CX
	ANDL	$7, R8
	MOVL	$1, R9			// counting words
	REP; MOVSQ
	MOVQ	R8, CX
	XORL	R9, R9
	JMP	under8

// userZero(as, dst, n) (left, fault)
TEXT ·userZero(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	8(SP), R13
	USEAS
	MOVQ	16(SP), DI
	MOVQ	24(SP), CX
	CLD
	USEROK
	MOVQ	CX, R8
	SHRQ	$3, CX
	ANDL	$7, R8
	MOVL	$2, R9			// counting words, results 8 bytes lower
	XORL	AX, AX
	REP; STOSQ
	MOVQ	R8, CX
	MOVL	$3, R9
	REP; STOSB
	USERNO
	MOVQ	$0, 32(SP)
	MOVQ	$0, 40(SP)
	RET

// userLoad32(as, addr) (left, fault, v)
TEXT ·userLoad32(SB),NOSPLIT|NOFRAME,$0-36
	MOVQ	8(SP), R13
	USEAS
	MOVQ	16(SP), SI
	MOVL	$4, R9
	MOVL	$1, CX
	USEROK
	MOVL	(SI), AX
	USERNO
	MOVQ	$0, 24(SP)
	MOVQ	$0, 32(SP)
	MOVL	AX, 40(SP)
	RET

// userCAS32(as, addr, old, new) (left, fault, v)
TEXT ·userCAS32(SB),NOSPLIT|NOFRAME,$0-44
	MOVQ	8(SP), R13
	USEAS
	MOVQ	16(SP), SI
	MOVL	24(SP), AX
	MOVL	28(SP), DX
	MOVL	$5, R9
	MOVL	$1, CX
	USEROK
	LOCK
	CMPXCHGL	DX, (SI)
	USERNO
	MOVQ	$0, 32(SP)
	MOVQ	$0, 40(SP)
	MOVL	AX, 48(SP)
	RET

// userXchg32(as, addr, new) (left, fault, v)
TEXT ·userXchg32(SB),NOSPLIT|NOFRAME,$0-44
	MOVQ	8(SP), R13
	USEAS
	MOVQ	16(SP), SI
	MOVL	24(SP), AX
	MOVL	$5, R9
	MOVL	$1, CX
	USEROK
	XCHGL	AX, (SI)
	USERNO
	MOVQ	$0, 32(SP)
	MOVQ	$0, 40(SP)
	MOVL	AX, 48(SP)
	RET

TEXT ·copyEnd(SB),NOSPLIT|NOFRAME,$0
	RET

// copyFault: RAX = fault address, RCX = units left, R8 = bytes after the words,
// R9 says which routine and unit it was.
TEXT ·copyFault(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	USERNO
	CMPL	R9, $4
	JCS	bulk
	JEQ	load
	MOVQ	CX, 32(SP)
	MOVQ	AX, 40(SP)
	RET
load:
	MOVQ	CX, 24(SP)
	MOVQ	AX, 32(SP)
	RET
bulk:
	CMPL	R9, $1
	JEQ	words
	CMPL	R9, $2
	JEQ	words
	JMP	put
words:
	LEAQ	(R8)(CX*8), CX
put:
	CMPL	R9, $2
	JCC	zero
	MOVQ	CX, 40(SP)
	MOVQ	AX, 48(SP)
	RET
zero:
	MOVQ	CX, 32(SP)
	MOVQ	AX, 40(SP)
	RET
