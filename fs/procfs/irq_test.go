package procfs

import (
	"bytes"
	"testing"

	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

// counting is a machine that counts interrupts.
type counting struct{ *fake.Machine }

func (counting) IRQCounts() []hal.IRQCount {
	return []hal.IRQCount{
		{Number: -1, Kind: "LOC", Name: "Local timer interrupts", Count: 90},
		{Number: 5, Kind: "PCI-MSI  edge", Name: "net", Count: 7},
		{Number: 2, Kind: "IO-APIC  fasteoi", Name: "uart", Count: 3},
	}
}

func TestInterruptsAreListedByNumberAndAddedUp(t *testing.T) {
	m := counting{fake.New(256)}
	f := &FS{k: &task.Kernel{M: m, Mem: mm.NewMemory(m.Machine)}}
	var b bytes.Buffer
	f.interrupts(&b)
	want := "  2:          3   IO-APIC  fasteoi   uart\n  5:          7   PCI-MSI  edge   net\nLOC:         90   Local timer interrupts\n"
	if _, body, _ := bytes.Cut(b.Bytes(), []byte("\n")); string(body) != want {
		t.Errorf("%s", body)
	}
	if got := f.interruptTotals(); got != "intr 100 0 0 3 0 0 7" {
		t.Error(got)
	}
}
