package metal

import (
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	gosyscall "syscall"

	"kiln/kernel/hal"
)

// irq is a connected line. Its state is Go's; the base knows vectors only.
type irq struct {
	name    string
	handler func()
	vec     uint8
	gsi     int64 // -1 for MSI
	level   bool
	mu      sync.Mutex
	masked  bool
	missed  bool // an MSI came while masked
	count   atomic.Uint64
}

var (
	handlers [256]atomic.Pointer[irq]
	vectors  sync.Mutex
)

func setHandler(v uint8, q *irq) { handlers[v].Store(q) }

// startDispatcher makes the goroutine that serves interrupts when no task loop
// does. It waits in the runtime's poller on the base's irq file, which also keeps
// the runtime from taking an idle machine for a deadlock (GO-ON-METAL 0.9).
func startDispatcher() {
	fd, _, e := gosyscall.RawSyscall(sysIRQFile, 0, 0, 0)
	if e != 0 {
		panic("metal: no irq file: " + e.Error())
	}
	f := os.NewFile(fd, "irq")
	go func() {
		var b [8]byte
		for {
			if _, err := f.Read(b[:]); err != nil {
				panic("metal: irq file: " + err.Error())
			}
			machine.Dispatch()
		}
	}()
}

// IRQCounts implements hal.IRQCounter.
func (*Machine) IRQCounts() (out []hal.IRQCount) {
	for v := range handlers {
		q := handlers[v].Load()
		if q == nil {
			continue
		}
		c := hal.IRQCount{Number: int(q.gsi), Kind: "IO-APIC  edge", Name: q.name, Count: q.count.Load()}
		switch {
		case v == lineDeadline:
			c = hal.IRQCount{Number: -1, Kind: "LOC", Name: "Local timer interrupts", Count: c.Count}
		case q.vec == 0:
			continue // no interrupt, but work that the base has noticed
		case q.gsi < 0:
			c.Number, c.Kind = v, "PCI-MSI  edge"
		case q.level:
			c.Kind = "IO-APIC  fasteoi"
		}
		out = append(out, c)
	}
	return out
}

// Pending implements hal.Machine.
func (*Machine) Pending() bool { return atomic.LoadUint32(&irqs.any) != 0 }

// Dispatch implements hal.Machine. any is cleared before the words are read and set
// after they are written: nothing latched is overlooked.
func (*Machine) Dispatch() {
	for atomic.LoadUint32(&irqs.any) != 0 {
		atomic.StoreUint32(&irqs.any, 0)
		for i := range irqs.word {
			w := atomic.SwapUint64(&irqs.word[i], 0)
			for w != 0 {
				b := uint(bits.TrailingZeros64(w))
				w &= w - 1
				if q := handlers[uint(i)*64+b].Load(); q != nil {
					q.fire()
				}
			}
		}
	}
}

func (q *irq) fire() {
	q.count.Add(1)
	if q.vec == 0 {
		q.handler()
		return
	}
	q.mu.Lock()
	if q.masked {
		q.missed = true
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	q.handler()
	if q.level {
		q.mu.Lock()
		if !q.masked {
			q.pin(false)
		}
		q.mu.Unlock()
	}
}

// Mask implements hal.IRQ.
func (q *irq) Mask() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.masked = true
	if q.gsi >= 0 {
		q.pin(true)
	}
}

// Unmask implements hal.IRQ.
func (q *irq) Unmask() {
	q.mu.Lock()
	missed := q.missed && q.masked
	q.masked, q.missed = false, false
	if q.gsi >= 0 {
		q.pin(false)
	}
	q.mu.Unlock()
	if missed {
		atomic.OrUint64(&irqs.word[q.vec>>6], 1<<(q.vec&63))
		atomic.StoreUint32(&irqs.any, 1)
		baseCall(opLine, 0, 0, 0)
	}
}

// Disconnect implements hal.IRQ.
func (q *irq) Disconnect() {
	q.Mask()
	vectors.Lock()
	defer vectors.Unlock()
	apics.vecGSI[q.vec] = 0
	handlers[q.vec].Store(nil)
}

// low is the redirection entry's low word (82093AA 3.2.4): fixed delivery, physical.
func (q *irq) low(flags hal.GSIFlags) uint32 {
	v := uint32(q.vec)
	if flags&hal.GSIActiveLow != 0 {
		v |= 1 << 13
	}
	if flags&hal.GSILevel != 0 {
		v |= 1 << 15
	}
	return v
}

// pin masks or unmasks the I/O APIC's pin.
func (q *irq) pin(mask bool) {
	op := uint64(0)
	if mask {
		op = 1
	}
	baseCall(opPin, uint64(q.gsi), op, 0)
}

func takeVector(q *irq) bool {
	for v := vecDevFirst; v <= vecDevLast; v++ {
		if handlers[v].Load() == nil {
			q.vec = uint8(v)
			handlers[v].Store(q)
			return true
		}
	}
	return false
}

func cpuAPIC(cpu int) uint32 {
	if cpu < 0 || uint64(cpu) >= base.ncpu {
		cpu = 0
	}
	return (*CPU)(ptr(base.cpus[cpu])).apicID
}

// ConnectMSI implements hal.Machine (SDM 3A 11.11 for address and data).
func (*Machine) ConnectMSI(name string, cpu int, handler func()) (hal.MSI, hal.IRQ, error) {
	vectors.Lock()
	defer vectors.Unlock()
	q := &irq{name: name, handler: handler, gsi: -1}
	if !takeVector(q) {
		return hal.MSI{}, nil, hal.ErrInUse
	}
	return hal.MSI{Addr: 0xfee00000 | uint64(cpuAPIC(cpu))<<12, Data: uint32(q.vec)}, q, nil
}

// ConnectGSI implements hal.Machine. The pin is unmasked on return.
func (*Machine) ConnectGSI(name string, gsi uint32, flags hal.GSIFlags, handler func()) (hal.IRQ, error) {
	vectors.Lock()
	defer vectors.Unlock()
	found := false
	for i := uint64(0); i < apics.n; i++ {
		a := &apics.a[i]
		found = found || uint64(gsi) >= a.gsi && uint64(gsi) < a.gsi+a.pins
	}
	if !found {
		return nil, hal.ErrUnsupported
	}
	for v := range handlers {
		if q := handlers[v].Load(); q != nil && q.vec != 0 && q.gsi == int64(gsi) {
			return nil, hal.ErrInUse
		}
	}
	q := &irq{name: name, handler: handler, gsi: int64(gsi), level: flags&hal.GSILevel != 0}
	if !takeVector(q) {
		return nil, hal.ErrInUse
	}
	if q.level {
		apics.vecGSI[q.vec] = gsi + 1
	}
	baseCall(opIOAPIC, uint64(gsi), 1, uint64(cpuAPIC(0))<<24)
	baseCall(opIOAPIC, uint64(gsi), 0, uint64(q.low(flags)))
	return q, nil
}
