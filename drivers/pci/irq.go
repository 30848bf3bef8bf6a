package pci

import (
	"fmt"
	"slices"

	"kiln/kernel/hal"
)

// Message capability registers (6.8.1, 6.8.2).
const (
	msiControl     = 2
	msiEnable      = 1 << 0
	msiWide        = 1 << 7
	msiMultiple    = 7 << 4
	msixEnable     = 1 << 15
	msixMaskAll    = 1 << 14
	msixEntry      = 16
	maxMSIXVectors = 2048
)

// MSIXVectors is the number of vectors in the function's MSI-X table, 0 if it has none.
func (f *Function) MSIXVectors() int {
	off, ok := f.Cap(CapMSIX)
	if !ok {
		return 0
	}
	return int(f.read(off+msiControl, 2)&(maxMSIXVectors-1)) + 1
}

// ConnectMSIX connects handlers[i] to vector i. Other vectors stay masked. Wired
// interrupts are switched off.
func (f *Function) ConnectMSIX(name string, handlers []func()) error {
	off, ok := f.Cap(CapMSIX)
	if !ok || len(handlers) > f.MSIXVectors() {
		return ErrNoVectors
	}
	where := f.read(off+4, 4)
	tab, err := f.MapBAR(int(where&7), uint64(where&^7), uint64(f.MSIXVectors()*msixEntry))
	if err != nil {
		return fmt.Errorf("%w: MSI-X table: %v", ErrNoVectors, err)
	}
	f.Enable()
	control := f.read(off+msiControl, 2)
	f.write(off+msiControl, 2, control|msixEnable|msixMaskAll)
	var done []hal.IRQ
	for i := range f.MSIXVectors() {
		at := i * msixEntry
		if i >= len(handlers) {
			tab.Write32(at+12, 1) // masked
			continue
		}
		msi, irq, err := f.bus.m.ConnectMSI(fmt.Sprintf("%s.%d", name, i), 0, handlers[i])
		if err != nil {
			f.write(off+msiControl, 2, control&^msixEnable)
			for _, q := range done {
				q.Disconnect()
			}
			return err
		}
		done = append(done, irq)
		tab.Write32(at, uint32(msi.Addr))
		tab.Write32(at+4, uint32(msi.Addr>>32))
		tab.Write32(at+8, msi.Data)
		tab.Write32(at+12, 0)
	}
	f.write(regCommand, 2, f.read(regCommand, 2)|cmdNoINTx)
	f.write(off+msiControl, 2, control&^msixMaskAll|msixEnable)
	return nil
}

// ConnectMSI connects the handler to the function's single message.
func (f *Function) ConnectMSI(name string, handler func()) error {
	off, ok := f.Cap(CapMSI)
	if !ok {
		return ErrNoVectors
	}
	msi, _, err := f.bus.m.ConnectMSI(name, 0, handler)
	if err != nil {
		return err
	}
	control := f.read(off+msiControl, 2)
	f.write(off+4, 4, uint32(msi.Addr))
	data := off + 8
	if control&msiWide != 0 {
		f.write(off+8, 4, uint32(msi.Addr>>32))
		data = off + 12
	}
	f.write(data, 2, msi.Data)
	f.Enable()
	f.write(regCommand, 2, f.read(regCommand, 2)|cmdNoINTx)
	f.write(off+msiControl, 2, control&^msiMultiple|msiEnable)
	return nil
}

// sharedLine is a wired interrupt with everybody on it.
type sharedLine struct{ handlers []func() }

// ConnectINTx connects the handler to the function's wired interrupt, which it
// shares: the handler must look whether its device raised it, and quieten the
// device before it returns.
func (f *Function) ConnectINTx(name string, handler func()) error {
	line, pin := uint8(f.read(regIRQLine, 1)), f.read(regIRQPin, 1)
	if pin == 0 || line == 0 || line == 0xff {
		return fmt.Errorf("%w: %v has no wired interrupt", ErrNoVectors, f.Address)
	}
	gsi, flags := uint32(line), hal.GSILevel|hal.GSIActiveLow
	if t := f.bus.tables; t != nil {
		for _, o := range t.Overrides {
			if o.IRQ == line {
				gsi, flags = o.GSI, o.Flags|hal.GSILevel
			}
		}
	}
	b := f.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lines[gsi]
	if l != nil {
		// Copied, because a dispatch may be walking the old list.
		l.handlers = append(slices.Clone(l.handlers), handler)
	} else {
		l = &sharedLine{handlers: []func(){handler}}
		_, err := b.m.ConnectGSI(fmt.Sprintf("pci line %d", line), gsi, flags, func() { b.dispatch(l) })
		if err != nil {
			return err
		}
		b.lines[gsi] = l
	}
	f.Enable()
	f.write(regCommand, 2, f.read(regCommand, 2)&^cmdNoINTx)
	return nil
}

func (b *Bus) dispatch(l *sharedLine) {
	b.mu.Lock()
	hs := l.handlers
	b.mu.Unlock()
	for _, h := range hs {
		h()
	}
}
