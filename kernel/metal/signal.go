package metal

const (
	sigILL  = 4
	sigTRAP = 5
	sigBUS  = 7
	sigFPE  = 8
	sigSEGV = 11
	sigURG  = 23
)

// sigaction is the kernel's struct (rt_sigaction(2)): handler, flags, restorer, mask.
type sigaction struct{ handler, flags, restorer, mask uint64 }

func sysSigaction(sig, newp, oldp, size uint64) int64 {
	if size != 8 {
		return -eINVAL
	}
	if sig < 1 || sig > 64 || (sig == 9 || sig == 19) && newp != 0 {
		return -eINVAL
	}
	if newp != 0 && !touch(newp, 32, false) || oldp != 0 && !touch(oldp, 32, true) {
		return -eFAULT
	}
	a := &base.sigact[sig]
	old := *a
	if newp != 0 {
		*a = sigaction{load64(newp), load64(newp + 8), load64(newp + 16), load64(newp+24) &^ (1<<8 | 1<<18)}
	}
	if oldp != 0 {
		store64(oldp, old.handler)
		store64(oldp+8, old.flags)
		store64(oldp+16, old.restorer)
		store64(oldp+24, old.mask)
	}
	return 0
}

func sysSigprocmask(m *M, how, newp, oldp, size uint64) int64 {
	if size != 8 {
		return -eINVAL
	}
	if newp != 0 && !touch(newp, 8, false) || oldp != 0 && !touch(oldp, 8, true) {
		return -eFAULT
	}
	old := m.mask
	if newp != 0 {
		v := load64(newp)
		switch how {
		case 0:
			m.mask |= v
		case 1:
			m.mask &^= v
		case 2:
			m.mask = v
		default:
			return -eINVAL
		}
		m.mask &^= 1<<8 | 1<<18
	}
	if oldp != 0 {
		store64(oldp, old)
	}
	return 0
}

func onAltStack(m *M, sp uint64) bool {
	return m.altLen != 0 && sp > m.altSP && sp-m.altSP <= m.altLen
}

func sysSigaltstack(m *M, newp, oldp uint64) int64 {
	if newp != 0 && !touch(newp, 24, false) || oldp != 0 && !touch(oldp, 24, true) {
		return -eFAULT
	}
	osp, olen, oflags := m.altSP, m.altLen, uint64(0)
	if m.altLen == 0 {
		oflags = 2 // SS_DISABLE
	} else if onAltStack(m, m.RSP) {
		oflags = 1
	}
	if newp != 0 {
		if oflags == 1 {
			return -1
		}
		switch flags := load32(newp + 8); flags &^ (1 << 31) {
		case 0, 1:
			if load64(newp+16) < 2048 {
				return -eNOMEM
			}
			m.altSP, m.altLen = load64(newp), load64(newp+16)
		case 2:
			m.altSP, m.altLen = 0, 0
		default:
			return -eINVAL
		}
	}
	if oldp != 0 {
		store64(oldp, osp)
		store64(oldp+8, oflags)
		store64(oldp+16, olen)
	}
	return 0
}

// sysKill signals the one process; the runtime does it to itself when it dies.
func sysKill(m *M, pid, sig uint64) int64 {
	if pid != 1 {
		return -eSRCH
	}
	return sysTgkill(m, pid, m.tid, sig)
}

func sysTgkill(m *M, pid, tid, sig uint64) int64 {
	if int32(pid) <= 0 || int32(tid) <= 0 {
		return -eINVAL
	}
	if pid != 1 {
		return -eSRCH
	}
	for i := range base.ms {
		if base.ms[i] == 0 {
			continue
		}
		t := mByID(uint32(i))
		if t.tid != tid {
			continue
		}
		if sig > 64 {
			return -eINVAL
		}
		if sig == 0 || base.sigact[sig].handler == 1 {
			return 0
		}
		t.pend |= 1 << (sig - 1)
		t.pcode = ^uint64(5) // SI_TKILL
		if t.mask&(1<<(sig-1)) == 0 {
			switch t.state {
			case mFutex, mSleep, mEpoll, mIdle:
				ready(t, -eINTR, false)
			case mRunning:
				if o := (*CPU)(ptr(base.cpus[t.cpu])); o.self != curCPU().self {
					curCPU().kick(o) // leaves ring 3, or takes it at the trap's end
				}
			}
		}
		return 0
	}
	return -eSRCH
}

// deliverPending pushes a frame for the lowest pending signal of an M that is
// about to run.
func deliverPending(m *M) {
	for p := m.pend &^ m.mask; p != 0; p = m.pend &^ m.mask {
		sig := uint32(1)
		for p&1 == 0 {
			p >>= 1
			sig++
		}
		m.pend &^= 1 << (sig - 1)
		switch h := base.sigact[sig].handler; {
		case h > 1:
			if !pushSignal(m, sig, m.pcode, 1) {
				fatalFrame("no room for a signal frame", &m.frame, 0)
			}
		case h == 0 && sig != sigURG && sig != 17 && sig != 28 && sig != 18:
			// The default of all others is to end the process: the runtime raises
			// SIGABRT after a crash report.
			exitGroup(128 + uint64(sig))
		}
	}
}

// Signal frame offsets from the new RSP (GO-ON-METAL 1.6): return address,
// ucontext, siginfo; the FXSAVE image above.
const (
	sfUC      = 8
	sfMC      = sfUC + 40
	sfMask    = sfMC + 256
	sfInfo    = sfMask + 8
	sfSize    = sfInfo + 128
	fxsaveLen = 512
)

// pushSignal makes m enter its handler. The alternate stack is demand-zero memory:
// it is made present first (GO-ON-METAL 1.6).
func pushSignal(m *M, sig uint32, code, addr uint64) bool {
	act := &base.sigact[sig]
	sp := m.RSP - 128
	if act.flags&0x08000000 != 0 && m.altLen != 0 && !onAltStack(m, m.RSP) { // SA_ONSTACK
		sp = m.altSP + m.altLen
	}
	fp := (sp - fxsaveLen) &^ 63
	sp = (fp-sfSize)&^15 - 8 // 8 mod 16 at entry, as after a call
	if !touch(sp, fp+fxsaveLen-sp, true) {
		return false
	}
	memzero(fp, fxsaveLen)
	store16(fp, 0x37f)
	store32(fp+24, m.mxcsr)
	memcopy(fp+160, addrOf2(m)+mXMMOff, 256)

	memzero(sp, sfSize)
	store64(sp, act.restorer)
	store64(sp+sfUC, 0x4) // UC_SIGCONTEXT_SS
	store64(sp+sfUC+16, m.altSP)
	store64(sp+sfUC+32, m.altLen)
	for i, v := range [...]uint64{
		m.R8, m.R9, m.R10, m.R11, m.R12, m.R13, m.R14, m.R15,
		m.RDI, m.RSI, m.RBP, m.RBX, m.RDX, m.RAX, m.RCX, m.RSP,
		m.RIP, m.RFLAGS, m.CS | m.SS<<48, m.Error, m.Vector, m.mask, m.cr2, fp,
	} {
		store64(sp+sfMC+uint64(i)*8, v)
	}
	store64(sp+sfMask, m.mask)
	store32(sp+sfInfo, sig)
	store32(sp+sfInfo+8, uint32(code))
	store64(sp+sfInfo+16, addr)
	if int32(code) < 0 {
		store64(sp+sfInfo+16, 1) // si_pid
	}

	m.mask |= act.mask
	if act.flags&0x40000000 == 0 { // SA_NODEFER
		m.mask |= 1 << (sig - 1)
	}
	m.RSP, m.RIP = sp, act.handler
	m.RDI, m.RSI, m.RDX, m.RAX = uint64(sig), sp+sfInfo, sp+sfUC, 0
	m.RFLAGS = flagIF | 2
	return true
}

// sysSigreturn undoes pushSignal; RSP points to the ucontext.
func sysSigreturn(m *M) {
	uc := m.RSP
	if !touch(uc, sfInfo-sfUC, false) {
		fatalFrame("sigreturn with a bad stack", &m.frame, 0)
	}
	mc := uc + 40
	r := (*[24]uint64)(ptr(mc))
	m.R8, m.R9, m.R10, m.R11, m.R12, m.R13, m.R14, m.R15 = r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
	m.RDI, m.RSI, m.RBP, m.RBX, m.RDX, m.RAX, m.RCX, m.RSP = r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15]
	m.RIP, m.RFLAGS = r[16], r[17]
	m.mask = load64(uc+sfMask-sfUC) &^ (1<<8 | 1<<18)
	if fp := r[23]; fp != 0 && touch(fp, fxsaveLen, false) {
		m.mxcsr = load32(fp+24) & 0xffbf
		memcopy(addrOf2(m)+mXMMOff, fp+160, 256)
	}
}
