package fake

import (
	"bytes"
	"testing"
	"time"

	"kiln/kernel/hal"
)

func TestCopiesHonourMappings(t *testing.T) {
	m := New(64)
	as, _ := m.NewAddressSpace()
	f, err := m.AllocFrames(1, hal.AllocZero)
	if err != nil {
		t.Fatal(err)
	}
	const at = 0x7fff_0000_0000
	if err := as.Map([]hal.Mapping{{Addr: at, Frame: f, Pages: 2, Prot: hal.ProtRead | hal.ProtWrite}}); err != nil {
		t.Fatal(err)
	}
	msg := bytes.Repeat([]byte("kiln"), 2000)
	if n, fault := as.CopyOut(at+500, msg); n != 2*4096-500 || fault != at+8192 {
		t.Fatalf("CopyOut stopped at %d, fault %#x", n, fault)
	}
	if !bytes.Equal(m.FrameRange(f, 2)[500:], msg[:8192-500]) {
		t.Fatal("bytes did not reach the frames")
	}
	as.Protect(at+4096, 4096, hal.ProtRead)
	if n, fault := as.CopyOut(at, msg[:5000]); n != 4096 || fault != at+4096 {
		t.Fatalf("write to a read-only page: %d, %#x", n, fault)
	}
	if prev, ok := as.CAS32(at+8, 0, 7); !ok || prev == 0 {
		t.Fatalf("CAS32 = %#x, %v", prev, ok)
	}
	as.Walk(at, 8192, true, func(a hal.UserAddr, p hal.PTE) {
		if !p.Accessed || !p.Dirty {
			t.Errorf("%#x: %+v", a, p)
		}
	})
	if p, _ := as.Query(at); p.Dirty {
		t.Error("Walk did not clear the dirty bit")
	}
	var seen int
	as.Unmap(0, uint64(hal.UserTop), func(hal.UserAddr, hal.PTE) { seen++ })
	if seen != 2 {
		t.Fatalf("unmapped %d pages", seen)
	}
	as.Retire()
	as.Destroy()
	m.FreeFrames(f, 0)
	m.FreeFrames(f+1, 0)
	if m.FreePages() != 64 {
		t.Fatal("frames leaked")
	}
}

func TestAdvanceFiresDeadlinesInOrder(t *testing.T) {
	m := New(1)
	var at []int64
	start := m.Nanotime()
	m.OnDeadline(func() {
		at = append(at, m.Nanotime()-start)
		if len(at) < 3 {
			m.SetDeadline(m.Nanotime() + 10)
		}
	})
	m.SetDeadline(start + 5)
	m.Advance(100)
	if len(at) != 3 || at[0] != 5 || at[1] != 15 || at[2] != 25 || m.Nanotime() != start+100 {
		t.Fatal(at, m.Nanotime()-start)
	}
}

func TestLevelInterruptRepeatsUntilTheLineFalls(t *testing.T) {
	m := New(1)
	n := 0
	done := make(chan bool)
	irq, err := m.ConnectGSI("test", 10, hal.GSILevel, func() {
		if n++; n == 3 {
			m.SetGSI(10, false)
			close(done)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	irq.Mask()
	m.SetGSI(10, true)
	m.Dispatch()
	if n != 0 {
		t.Fatal("handler ran while masked")
	}
	irq.Unmask()
	<-done
}

func TestEnterReturnsForAnInterrupt(t *testing.T) {
	m := New(1)
	ctx := m.NewCtx()
	m.QueueSyscall(ctx, 39, 1, 2)
	m.Enter(ctx, nil)
	if ctx.Exit.Kind != hal.ExitSyscall || ctx.RAX != 39 || ctx.RSI != 2 {
		t.Fatal(ctx.Exit, ctx.Regs)
	}
	time.AfterFunc(5*time.Millisecond, func() { m.Interrupt(ctx) })
	if m.Enter(ctx, nil); ctx.Exit.Kind != hal.ExitInterrupt {
		t.Fatal(ctx.Exit)
	}
}
