package task

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

const (
	rtSig    = int32(34)
	tryCall  = 1000
	pauseNr  = 1001
	raiseNr  = 1002
	handlerA = 0x5000
	restorer = 0x5100
)

// handlers installs handlerA for sig with flags.
func install(t *Thread, sig int32, flags uint64, mask SigSet) {
	if _, err := t.process.Action(sig, &SigAction{Handler: handlerA, Flags: flags | SARestorer, Restorer: restorer, Mask: mask}); err != nil {
		panic(err)
	}
}

// ret makes the code at an address return through the restorer, as RET does.
func (r *rig) ret(at uint64, before func(c *hal.Ctx, as hal.AddressSpace)) {
	r.at(at, func(c *hal.Ctx, as hal.AddressSpace) {
		if before != nil {
			before(c, as)
		}
		var b [8]byte
		as.CopyIn(b[:], hal.UserAddr(c.RSP))
		c.RSP += 8
		c.RIP = binary.LittleEndian.Uint64(b[:])
		c.Exit = hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(restorer, unix.SYS_RT_SIGRETURN)
}

func TestExitStatusReachesInit(t *testing.T) {
	r := newRig(t)
	r.sysAt(0x1000, unix.SYS_EXIT_GROUP, 42)
	r.start(0x1000)
	if s := r.wait(); s != 42<<8 {
		t.Fatalf("status %#x", s)
	}
	r.sysAt(0x2000, unix.SYS_EXIT, 7)
	r2 := newRig(t)
	r2.sysAt(0x1000, unix.SYS_EXIT, 7)
	r2.start(0x1000)
	if s := r2.wait(); s != 7<<8 {
		t.Fatalf("status %#x", s)
	}
}

// Which codes run the call again, by kind of handler (signal(7)).
func TestInterruptedCallsRestartAsLinuxDoes(t *testing.T) {
	for _, c := range []struct {
		name    string
		code    unix.Errno
		flags   uint64
		handler bool
		again   bool // the call runs twice
		result  uint64
	}{
		{"ERESTARTSYS with SA_RESTART", wait.ErrRestart, SARestart, true, true, 99},
		{"ERESTARTSYS without SA_RESTART", wait.ErrRestart, 0, true, false, ^uint64(unix.EINTR) + 1},
		{"ERESTARTSYS without handler", wait.ErrRestart, 0, false, true, 99},
		{"ERESTARTNOHAND with SA_RESTART", wait.ErrRestartNoHnd, SARestart, true, false, ^uint64(unix.EINTR) + 1},
		{"ERESTARTNOHAND without handler", wait.ErrRestartNoHnd, 0, false, true, 99},
		{"ERESTARTNOINTR", wait.ErrRestartNoInt, 0, true, true, 99},
		{"ERESTART_RESTARTBLOCK with SA_RESTART", wait.ErrRestartBlock, SARestart, true, false, ^uint64(unix.EINTR) + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			runs := 0
			var sawRAX uint64
			handled := 0
			r.on(tryCall, func(th *Thread) (uintptr, error) {
				if runs++; runs > 1 {
					return 99, nil
				}
				if c.handler {
					install(th, int32(unix.SIGUSR1), c.flags, 0)
					th.SendSignal(SignalInfo{Signo: int32(unix.SIGUSR1)})
				}
				return 0, c.code
			})
			r.sysAt(0x1000, tryCall)
			r.at(0x1002, func(x *hal.Ctx, _ hal.AddressSpace) {
				sawRAX = x.RAX
				x.RIP, x.Exit = 0x2000, hal.Exit{Kind: hal.ExitInterrupt}
			})
			r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
			r.ret(handlerA, func(*hal.Ctx, hal.AddressSpace) { handled++ })
			r.start(0x1000)
			r.wait()
			want := 1
			if c.again {
				want = 2
			}
			if runs != want || sawRAX != c.result || (handled == 1) != c.handler {
				t.Errorf("ran %d times, result %d, handled %d", runs, int64(sawRAX), handled)
			}
		})
	}
}

func TestRestartBlockGoesThroughRestartSyscall(t *testing.T) {
	r := newRig(t)
	first, resumed := 0, 0
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		first++
		return 0, th.SetRestart(func(*Thread) (uintptr, error) { resumed++; return 5, nil })
	})
	// The fake's "instruction" at 0x1000 reads RAX as SYSCALL would.
	entered := false
	r.at(0x1000, func(c *hal.Ctx, _ hal.AddressSpace) {
		if !entered {
			c.RAX, entered = tryCall, true
		}
		c.RIP, c.Exit = 0x1002, hal.Exit{Kind: hal.ExitSyscall}
	})
	r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
		c.RDI = c.RAX
		c.RAX, c.Exit = unix.SYS_EXIT_GROUP, hal.Exit{Kind: hal.ExitSyscall}
	})
	r.start(0x1000)
	if s := r.wait(); s != 5<<8 || first != 1 || resumed != 1 {
		t.Fatalf("status %#x, first %d, resumed %d", s, first, resumed)
	}
}

func TestFrameRoundTripKeepsEveryRegisterAndVectorState(t *testing.T) {
	for _, xsave := range []bool{false, true} {
		r := newRig(t)
		if xsave {
			r.m.Feat.XSAVE, r.m.Feat.XCR0, r.m.Feat.FPSize = true, 7, 832
			r.k = NewKernel(Config{M: r.m, Mem: r.mem, Timers: r.k.Timers, Syscalls: r, OnInitExit: r.k.OnInitExit})
		}
		var want, got hal.Regs
		var fpWant, fpGot []byte
		rnd := rand.New(rand.NewPCG(1, 2))
		r.on(raiseNr, func(th *Thread) (uintptr, error) {
			install(th, rtSig, SASigInfo|SARestart, Set(int32(unix.SIGUSR2)))
			th.process.SendSignal(SignalInfo{Signo: rtSig, Code: SIQueue, PID: 77, UID: 5, Value: 0xabcdef})
			return 0x1234, nil
		})
		r.sysAt(0x1000, raiseNr)
		r.at(0x0fff, nil)
		set := r.code[0x1000]
		r.at(0x1000, func(c *hal.Ctx, as hal.AddressSpace) {
			var m mcRegs
			for i := range m {
				m[i] = byte(rnd.Uint32())
			}
			keep := c.Regs
			m.get(&c.Regs)
			c.RSP, c.RIP, c.RFLAGS = keep.RSP, keep.RIP, keep.RFLAGS
			c.RFLAGS |= flagDF | 1 // the handler starts with DF clear, CF stays
			for i := 32; i < 416; i++ {
				c.FP[i] = byte(rnd.Uint32())
			}
			if xsave {
				c.FP[xstateBV] = 3
			}
			set(c, as)
			want = c.Regs
			want.RAX = 0x1234
			fpWant = append([]byte(nil), c.FP...)
		})
		r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
			got, fpGot = c.Regs, append([]byte(nil), c.FP...)
			c.RIP, c.Exit = 0x2000, hal.Exit{Kind: hal.ExitInterrupt}
		})
		r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
		r.ret(handlerA, func(c *hal.Ctx, as hal.AddressSpace) { checkFrame(t, c, as, &want, xsave, r.m.Feat.FPSize) })
		r.start(0x1000)
		r.wait()
		got.OrigRAX, want.OrigRAX = 0, 0
		if got != want {
			t.Errorf("xsave %v: registers\n got %+v\nwant %+v", xsave, got, want)
		}
		clear(fpGot[fpSWReserved:fxsaveSize]) // the frame's marks stay there
		clear(fpWant[fpSWReserved:fxsaveSize])
		if string(fpGot) != string(fpWant) {
			t.Errorf("xsave %v: vector state changed", xsave)
		}
	}
}

// XSAVEOPT leaves stale bytes where a component is in its initial state; a frame must
// show that state, and only that, and leave the thread's own image alone.
func TestFrameShowsTheInitialStateOfUnusedComponents(t *testing.T) {
	r := newRig(t)
	r.m.Feat.XSAVE, r.m.Feat.XCR0, r.m.Feat.FPSize = true, 7, 832
	for bv := range byte(8) {
		th := &Thread{k: r.k, Ctx: &hal.Ctx{FP: make([]byte, 832)}}
		fp := th.Ctx.FP
		for i := range fp {
			if i < fpSWReserved || i >= xsaveYMM {
				fp[i] = 0xee
			}
		}
		fp[xstateBV] = bv
		orig := string(fp)
		got := th.framedFP()
		for i, b := range got {
			want := orig[i]
			switch {
			case i == xstateBV:
				want = bv | 3
			case i >= 24 && i < 32: // MXCSR and its mask
			case i == 0 && bv&1 == 0:
				want = 0x7f
			case i == 1 && bv&1 == 0:
				want = 0x03
			case i < 160 && bv&1 == 0, i >= 160 && i < 416 && bv&2 == 0, i >= xsaveYMM && bv&4 == 0:
				want = 0
			}
			if b != want {
				t.Fatalf("XSTATE_BV %d: byte %d is %#x, want %#x", bv, i, b, want)
			}
		}
		if string(fp) != orig {
			t.Errorf("XSTATE_BV %d: the thread's own state changed", bv)
		}
	}
}

// checkFrame reads the frame as a handler would: offsets are those that glibc's
// ucontext_t and siginfo_t have.
func checkFrame(t *testing.T, c *hal.Ctx, as hal.AddressSpace, want *hal.Regs, xsave bool, fpSize int) {
	t.Helper()
	var f [440]byte
	if n, _ := as.CopyIn(f[:], hal.UserAddr(c.RSP)); n != len(f) {
		t.Fatal("frame not readable")
	}
	le := binary.LittleEndian
	if c.RSP%16 != 8 {
		t.Errorf("rsp %#x: the ABI wants 8 mod 16 at a function's entry", c.RSP)
	}
	if c.RDI != uint64(rtSig) || c.RSI != c.RSP+312 || c.RDX != c.RSP+8 || c.RAX != 0 {
		t.Errorf("arguments %#x %#x %#x rax %#x", c.RDI, c.RSI, c.RDX, c.RAX)
	}
	if c.RFLAGS&flagDF != 0 || c.RFLAGS&1 == 0 {
		t.Errorf("rflags %#x", c.RFLAGS)
	}
	if le.Uint64(f[0:]) != restorer {
		t.Error("no return address")
	}
	flags := uint64(6)
	if xsave {
		flags = 7
	}
	if le.Uint64(f[8:]) != flags {
		t.Errorf("uc_flags %d", le.Uint64(f[8:]))
	}
	if le.Uint32(f[8+16+8:]) != 0 {
		t.Error("uc_stack has flags before any sigaltstack")
	}
	mc := f[48:]
	for _, o := range []struct {
		off  int
		want uint64
	}{{0, want.R8}, {56, want.R15}, {64, want.RDI}, {88, want.RBX}, {104, want.RAX}, {112, want.RCX}, {120, want.RSP}, {128, want.RIP}, {136, want.RFLAGS}} {
		if v := le.Uint64(mc[o.off:]); v != o.want {
			t.Errorf("sigcontext+%d is %#x, want %#x", o.off, v, o.want)
		}
	}
	if cs := le.Uint16(mc[144:]); cs != 0x33 {
		t.Errorf("cs %#x", cs)
	}
	fp := le.Uint64(mc[184:])
	if fp%64 != 0 || fp <= c.RSP {
		t.Errorf("fpstate at %#x", fp)
	}
	if le.Uint64(f[8+296:]) != 0 {
		t.Error("uc_sigmask is not the old mask")
	}
	si := f[312:]
	if le.Uint32(si) != uint32(rtSig) || int32(le.Uint32(si[8:])) != SIQueue || le.Uint32(si[16:]) != 77 ||
		le.Uint32(si[20:]) != 5 || le.Uint64(si[24:]) != 0xabcdef {
		t.Errorf("siginfo % x", si[:40])
	}
	if !xsave {
		return
	}
	var sw [20]byte
	as.CopyIn(sw[:], hal.UserAddr(fp+464))
	if le.Uint32(sw[0:]) != 0x46505853 || le.Uint32(sw[4:]) != uint32(fpSize+4) || le.Uint64(sw[8:]) != 7 || le.Uint32(sw[16:]) != uint32(fpSize) {
		t.Errorf("software reserved bytes % x", sw)
	}
	var m2 [4]byte
	as.CopyIn(m2[:], hal.UserAddr(fp+uint64(fpSize)))
	if le.Uint32(m2[:]) != 0x46505845 {
		t.Errorf("second magic % x", m2)
	}
}

func TestFrameGoesToTheAlternateStack(t *testing.T) {
	r := newRig(t)
	var rsp uint64
	var during, after AltStack
	var th0 *Thread
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		th0 = th
		if err := th.SetAltStack(AltStack{SP: dataBase, Size: 16384}); err != nil {
			t.Error(err)
		}
		install(th, int32(unix.SIGUSR1), SAOnStack, 0)
		th.SendSignal(SignalInfo{Signo: int32(unix.SIGUSR1)})
		return 0, nil
	})
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		if err := th.SetAltStack(AltStack{Flags: SSDisable}); err != unix.EPERM {
			t.Errorf("changed while in use: %v", err)
		}
		return 0, nil
	})
	r.sysAt(0x1000, raiseNr)
	r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
		after = th0.AltStack(c.RSP)
		c.RIP, c.Exit = 0x2000, hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.sysAt(handlerA, tryCall)
	r.ret(handlerA+2, func(c *hal.Ctx, _ hal.AddressSpace) { rsp = c.RSP; during = th0.AltStack(c.RSP) })
	r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
	if rsp < dataBase || rsp > dataBase+16384 {
		t.Errorf("handler ran at %#x", rsp)
	}
	if during.Flags != SSOnStack || after.Flags != 0 || after.SP != dataBase {
		t.Errorf("during %+v, after %+v", during, after)
	}
}

func TestBadFrameIsFatal(t *testing.T) {
	for name, sp := range map[string]uint64{"unmapped": 0x10000, "kernel half": 0xffff800000000000, "top": 0x7ffffffff000 - 8} {
		r := newRig(t)
		r.at(0x1000, func(c *hal.Ctx, _ hal.AddressSpace) {
			c.RSP, c.RAX, c.RIP = sp, unix.SYS_RT_SIGRETURN, 0x1002
			c.Exit = hal.Exit{Kind: hal.ExitSyscall}
		})
		r.start(0x1000)
		if s := r.wait(); s != uint32(unix.SIGSEGV) {
			t.Errorf("%s: status %#x", name, s)
		}
	}
}

func TestFaultSignals(t *testing.T) {
	for _, c := range []struct {
		name string
		exit hal.Exit
		sig  unix.Signal
		code int32
		addr uint64
		text string
	}{
		{"null write", hal.Exit{Vector: hal.VectorPF, Error: hal.PFUser | hal.PFWrite, Addr: 0x10}, unix.SIGSEGV, 1, 0x10, "writing address 0x10, no mapping"},
		{"kernel address", hal.Exit{Vector: hal.VectorPF, Error: hal.PFUser, Addr: 0xffffffff80000000}, unix.SIGSEGV, 1, 0xffffffff80000000, "reading"},
		{"execute data", hal.Exit{Vector: hal.VectorPF, Error: hal.PFUser | hal.PFFetch | hal.PFPresent, Addr: dataBase + 8}, unix.SIGSEGV, 2, dataBase + 8, "executing address 0x60000008, [test]+0x8 (rw-)"},
		{"division", hal.Exit{Vector: hal.VectorDE}, unix.SIGFPE, 1, 0x1000, "SIGFPE"},
		{"illegal", hal.Exit{Vector: hal.VectorUD}, unix.SIGILL, 2, 0x1000, "SIGILL"},
		{"privileged", hal.Exit{Vector: hal.VectorGP}, unix.SIGSEGV, 0x80, 0, "general protection"},
		{"breakpoint", hal.Exit{Vector: hal.VectorBP}, unix.SIGTRAP, 0x80, 0, "SIGTRAP"},
		{"alignment", hal.Exit{Vector: hal.VectorAC}, unix.SIGBUS, 1, 0, "SIGBUS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, handled := range []bool{false, true} {
				r := newRig(t)
				c.exit.Kind = hal.ExitException
				var code int32
				var addr, cr2 uint64
				r.on(raiseNr, func(th *Thread) (uintptr, error) { install(th, int32(c.sig), SASigInfo, 0); return 0, nil })
				r.jump(0x900, 0x1000)
				if handled {
					r.sysAt(0x900, raiseNr)
					r.jump(0x902, 0x1000)
				}
				r.at(0x1000, func(x *hal.Ctx, _ hal.AddressSpace) { x.Exit = c.exit })
				r.at(handlerA, func(x *hal.Ctx, as hal.AddressSpace) {
					var f [440]byte
					as.CopyIn(f[:], hal.UserAddr(x.RSP))
					code = int32(binary.LittleEndian.Uint32(f[312+8:]))
					addr = binary.LittleEndian.Uint64(f[312+16:])
					cr2 = binary.LittleEndian.Uint64(f[48+176:])
					x.RIP, x.Exit = 0x2000, hal.Exit{Kind: hal.ExitInterrupt}
				})
				r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
				r.start(0x900)
				s := r.wait()
				if !handled {
					if s != uint32(c.sig) {
						t.Errorf("status %#x", s)
					}
					if l := r.log(); len(l) != 1 || !strings.Contains(l[0], c.text) || !strings.Contains(l[0], `thread "prog"`) {
						t.Errorf("report %q", l)
					}
					continue
				}
				if code != c.code || addr != c.addr {
					t.Errorf("si_code %d si_addr %#x", code, addr)
				}
				if c.exit.Vector == hal.VectorPF && cr2 != c.exit.Addr {
					t.Errorf("cr2 %#x", cr2)
				}
			}
		})
	}
}

func TestBlockedFaultSignalKills(t *testing.T) {
	r := newRig(t)
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		install(th, int32(unix.SIGSEGV), 0, 0)
		th.SetMask(Set(int32(unix.SIGSEGV)))
		return 0, nil
	})
	r.sysAt(0x1000, raiseNr)
	r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
		c.Exit = hal.Exit{Kind: hal.ExitException, Vector: hal.VectorPF, Error: hal.PFUser, Addr: 8}
	})
	r.start(0x1000)
	if s := r.wait(); s != uint32(unix.SIGSEGV) {
		t.Fatalf("status %#x", s)
	}
}

func TestRealTimeSignalsQueueClassicOnesDoNot(t *testing.T) {
	r := newRig(t)
	var order []uint64
	var th0 *Thread
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		th0 = th
		rt := rtSig
		install(th, rt, SASigInfo, ^SigSet(0))
		install(th, int32(unix.SIGUSR1), SASigInfo, ^SigSet(0))
		th.SetMask(Set(rt) | Set(int32(unix.SIGUSR1)))
		for i := uint64(1); i <= 3; i++ {
			th.SendSignal(SignalInfo{Signo: rt, Code: SIQueue, Value: i})
			th.SendSignal(SignalInfo{Signo: int32(unix.SIGUSR1), Code: SIQueue, Value: 100 + i})
		}
		th.SetMask(0)
		return 0, nil
	})
	r.sysAt(0x1000, raiseNr)
	r.jump(0x1002, 0x2000)
	r.ret(handlerA, func(c *hal.Ctx, as hal.AddressSpace) {
		var b [8]byte
		as.CopyIn(b[:], hal.UserAddr(c.RSI+24))
		order = append(order, binary.LittleEndian.Uint64(b[:]))
	})
	r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	r.wait()
	want := []uint64{101, 1, 2, 3}
	if len(order) != len(want) {
		t.Fatalf("delivered %v, want %v", order, want)
	}
	for i := range want {
		if order[i] != want[i] {
			t.Fatalf("delivered %v, want %v", order, want)
		}
	}
	if n := th0.k.sigQueued.Load(); n != 0 {
		t.Errorf("%d signals still counted", n)
	}
}

func TestIgnoredAndFatalDefaultSignals(t *testing.T) {
	for sig := int32(1); sig <= 64; sig++ {
		r := newRig(t)
		r.on(raiseNr, func(th *Thread) (uintptr, error) {
			th.process.SendSignal(SignalInfo{Signo: sig, PID: 1})
			return 0, nil
		})
		r.sysAt(0x1000, raiseNr)
		r.jump(0x1002, 0x2000)
		r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 1)
		if sigStops.Has(sig) {
			continue
		}
		r.start(0x1000)
		want := uint32(sig)
		switch unix.Signal(sig) {
		case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH:
			want = 1 << 8
		}
		if s := r.wait(); s != want {
			t.Errorf("signal %d: status %#x, want %#x", sig, s, want)
		}
	}
}

func TestStopAndContinue(t *testing.T) {
	r := newRig(t)
	spins := 0
	r.at(0x1000, func(c *hal.Ctx, _ hal.AddressSpace) {
		r.mu.Lock()
		spins++
		r.mu.Unlock()
		c.Exit = hal.Exit{Kind: hal.ExitInterrupt}
	})
	p := r.start(0x1000)
	p.SendSignal(SignalInfo{Signo: int32(unix.SIGSTOP)})
	r.eventually("stopped", func() bool { return p.State() == 'T' })
	r.mu.Lock()
	before := spins
	r.mu.Unlock()
	p.SendSignal(SignalInfo{Signo: int32(unix.SIGUSR2), Code: SIUser})
	_ = before
	p.SendSignal(SignalInfo{Signo: int32(unix.SIGCONT)})
	if s := r.wait(); s != uint32(unix.SIGUSR2) {
		t.Fatalf("status %#x", s)
	}
	r = newRig(t)
	r.jump(0x1000, 0x1000)
	p = r.start(0x1000)
	p.SendSignal(SignalInfo{Signo: int32(unix.SIGSTOP)})
	r.eventually("stopped", func() bool { return p.State() == 'T' })
	p.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL)})
	if s := r.wait(); s != uint32(unix.SIGKILL) {
		t.Fatalf("status %#x", s)
	}
}

func TestWildHandlerAddressIsTheProgramsFault(t *testing.T) {
	r := newRig(t)
	r.on(raiseNr, func(th *Thread) (uintptr, error) {
		_, _ = th.process.Action(int32(unix.SIGUSR1), &SigAction{Handler: 0xffff800000000000, Flags: SARestorer, Restorer: restorer})
		th.SendSignal(SignalInfo{Signo: int32(unix.SIGUSR1)})
		return 0, nil
	})
	r.sysAt(0x1000, raiseNr)
	r.start(0x1000)
	if s := r.wait(); s != uint32(unix.SIGSEGV) {
		t.Fatalf("status %#x", s)
	}
}

// ppoll's mask is in force during the wait, does not end it, and is gone afterwards;
// the frame of a signal it let in holds the old mask.
func TestTemporaryMask(t *testing.T) {
	r := newRig(t)
	usr1, usr2 := int32(unix.SIGUSR1), int32(unix.SIGUSR2)
	var th0 *Thread
	var during, frame SigSet
	call := 0
	r.on(tryCall, func(th *Thread) (uintptr, error) {
		th0 = th
		install(th, usr1, 0, 0)
		if call == 0 {
			th.SetMask(Set(usr1))
		}
		th.SetUserSigmask(Set(usr2))
		if call++; call == 1 {
			if res := th.Block(1, wait.Interruptible); res != wait.Timeout {
				t.Errorf("the mask itself ended the wait: %v", res)
			}
			return 0, nil
		}
		th.SendSignal(SignalInfo{Signo: usr1})
		if res := th.Block(hal.NoDeadline, wait.Interruptible); res != wait.Signal {
			t.Errorf("wait ended %v", res)
		}
		return 0, wait.ErrRestartNoHnd
	})
	r.sysAt(0x1000, tryCall)
	r.at(0x1002, func(c *hal.Ctx, _ hal.AddressSpace) {
		if th0.mask != Set(usr1) {
			t.Errorf("call %d: mask %#x afterwards", call, th0.mask)
		}
		c.RIP = 0x1000
		if call == 2 {
			c.RIP = 0x2000
		}
		c.Exit = hal.Exit{Kind: hal.ExitInterrupt}
	})
	r.ret(handlerA, func(c *hal.Ctx, as hal.AddressSpace) {
		during = th0.mask
		var b [8]byte
		as.CopyIn(b[:], hal.UserAddr(c.RSP+8+296))
		frame = SigSet(binary.LittleEndian.Uint64(b[:]))
	})
	r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
	r.start(0x1000)
	if s := r.wait(); s != 0 {
		t.Fatalf("status %#x", s)
	}
	if during != Set(usr1)|Set(usr2) || frame != Set(usr1) {
		t.Errorf("in the handler %#x, in the frame %#x", during, frame)
	}
}

// A thread lets go of the lock between taking a stop signal and stopping.
func TestSIGCONTBetweenAStopSignalAndTheStopWins(t *testing.T) {
	for _, continued := range []bool{false, true} {
		var stops int32
		r := newRig(t)
		r.on(tryCall, func(th *Thread) (uintptr, error) {
			p, info := th.process, SignalInfo{}
			p.SendSignal(SignalInfo{Signo: int32(unix.SIGSTOP)})
			p.mu.Lock()
			th.dequeue(^th.mask, &info)
			p.mu.Unlock()
			if continued {
				p.SendSignal(SignalInfo{Signo: int32(unix.SIGCONT)})
			}
			th.startStop(info.Signo)
			p.mu.Lock()
			stops = p.stopSig
			p.mu.Unlock()
			p.SendSignal(SignalInfo{Signo: int32(unix.SIGCONT)})
			return 0, nil
		})
		r.sysAt(0x1000, tryCall)
		r.jump(0x1002, 0x2000)
		r.sysAt(0x2000, unix.SYS_EXIT_GROUP, 0)
		r.start(0x1000)
		r.wait()
		if (stops == 0) != continued {
			t.Errorf("continued %v: it stops by signal %d", continued, stops)
		}
	}
}

// A SIGCONT that comes while some threads have stopped and others have not counts: the parent
// hears of the stop that was on its way, and wait of a process that goes on.
func TestSIGCONTEndsAStopOnItsWay(t *testing.T) {
	solo(t, func(_ *rig, th *Thread) {
		p := th.process
		cont := func(stopped int) (report bool, tell int32) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.stopSig, p.stopped, p.nthreads = int32(unix.SIGSTOP), stopped, 2
			p.contReport, p.contTell, p.stopReport = false, 0, 0
			p.resume(true)
			report, tell = p.contReport, p.contTell
			p.stopped, p.nthreads, p.contTell, p.contReport = 0, 1, 0, false
			return report, tell
		}
		for stopped, want := range []int32{cldStopped, cldStopped, cldContinued} {
			if report, tell := cont(stopped); !report || tell != want {
				t.Errorf("%d of 2 stopped: %v, %d", stopped, report, tell)
			}
		}
	})
}
