package procfs

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
)

// escape writes the characters of set as octal, as seq_escape does.
func escape(s, set string) string {
	if !strings.ContainsAny(s, set) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) >= 0 {
			fmt.Fprintf(&b, "\\%03o", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// nameColumn is where a mapping's name starts (show_vma_header_prefix).
const nameColumn = 73

func mapLine(b *bytes.Buffer, v *mm.VMA, name string) {
	at := b.Len()
	p := []byte("---p")
	for i, bit := range []hal.Prot{hal.ProtRead, hal.ProtWrite, hal.ProtExec} {
		if v.Prot&bit != 0 {
			p[i] = "rwx"[i]
		}
	}
	if v.Shared {
		p[3] = 's'
	}
	fmt.Fprintf(b, "%08x-%08x %s %08x %02x:%02x %d", uint64(v.Start), uint64(v.End), p, uint64(v.Offset), unix.Major(v.Dev), unix.Minor(v.Dev), v.Ino)
	b.WriteByte(' ')
	if name != "" {
		for b.Len()-at < nameColumn {
			b.WriteByte(' ')
		}
		b.WriteString(escape(name, "\n"))
	}
	b.WriteByte('\n')
}

// vmaBytes is what a mm.VMA takes; lineBytes, figureBytes and numaBytes what a line of maps, a
// mapping's lines of smaps, and its line of numa_maps do beside the name.
const (
	vmaBytes    = 176
	lineBytes   = 80
	figureBytes = 900
	numaBytes   = 180
)

// mappings calls f for each mapping, once the list, and room in b for the name and so many
// bytes more, have been paid for: ENOMEM at the edge of the budget. A program may have tens of
// thousands. No text: f writes nothing and gets no name.
func (e *entry) mappings(b *bytes.Buffer, resident bool, text int, f func(v *mm.VMA, name string)) error {
	s, done := e.space()
	defer done()
	if s == nil {
		return nil
	}
	budget, paid := s.Memory().Budget(), int64(0)
	defer func() { budget.Uncharge(paid) }()
	pay := func(n int) bool {
		ok := budget.Charge(int64(n))
		if ok {
			paid += int64(n)
		}
		return ok
	}
	if !pay(vmaBytes * s.Mappings()) {
		return unix.ENOMEM
	}
	list, root := s.Maps(resident), e.root()
	for i := range list {
		name := ""
		if text > 0 {
			name = task.MapName(e.f.k.NS, &list[i], root)
			if n := text + len(name); b.Available() < n {
				more := max((len(list)-i)*text, b.Cap()) + n
				if !pay(b.Cap() + more) { // the old text stays until it is copied
					return unix.ENOMEM
				}
				b.Grow(more)
			}
		}
		f(&list[i], name)
	}
	return nil
}

func (e *entry) maps(b *bytes.Buffer) error {
	return e.mappings(b, false, lineBytes, func(v *mm.VMA, name string) { mapLine(b, v, name) })
}

// smapsFigures are the lines below each mapping.
func smapsFigures(b *bytes.Buffer, v *mm.VMA, size bool) {
	kb := func(name string, n int64) { fmt.Fprintf(b, "%-16s%8d kB\n", name+":", n/1024) }
	rss := v.Resident * hal.PageSize
	if size {
		kb("Size", int64(v.End-v.Start))
		kb("KernelPageSize", hal.PageSize)
		kb("MMUPageSize", hal.PageSize)
	}
	kb("Rss", rss)
	kb("Pss", v.Pss)
	kb("Pss_Dirty", v.PssDirty)
	kb("Shared_Clean", v.SharedClean)
	kb("Shared_Dirty", v.SharedDirty)
	kb("Private_Clean", v.PrivateClean)
	kb("Private_Dirty", v.PrivateDirty)
	kb("Referenced", rss)
	kb("Anonymous", v.Anonymous*hal.PageSize)
	for _, n := range []string{"LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss"} {
		kb(n, 0)
	}
	locked := int64(0)
	if v.Locked {
		locked = rss
	}
	kb("Locked", locked)
}

func (e *entry) smaps(b *bytes.Buffer) error {
	return e.mappings(b, true, figureBytes, func(v *mm.VMA, name string) {
		mapLine(b, v, name)
		smapsFigures(b, v, true)
		b.WriteString("THPeligible:    0\nVmFlags:")
		for k, bit := range []hal.Prot{hal.ProtRead, hal.ProtWrite, hal.ProtExec} {
			if v.Prot&bit != 0 {
				b.WriteString([]string{" rd", " wr", " ex"}[k])
			}
		}
		if v.Shared {
			b.WriteString(" sh")
		}
		b.WriteString(" mr mw me")
		if v.GrowsDown {
			b.WriteString(" gd")
		}
		if v.Locked {
			b.WriteString(" lo")
		}
		if v.DontDump {
			b.WriteString(" dd")
		}
		b.WriteString(" \n")
	})
}

// numaMaps shows the policy of each mapping and the pages that it has, all of them on node 0
// (numa_maps(5)). Which of them are active nobody knows here.
func (e *entry) numaMaps(b *bytes.Buffer) error {
	var own mm.Policy
	if t := e.someone(); t != nil {
		own = t.Policy()
	}
	return e.mappings(b, true, numaBytes, func(v *mm.VMA, name string) {
		p := v.Policy
		if p == 0 {
			p = own
		}
		fmt.Fprintf(b, "%08x %v", uint64(v.Start), p)
		switch {
		case name == "[heap]":
			b.WriteString(" heap")
		case name == "[stack]":
			b.WriteString(" stack")
		case v.File != nil || strings.HasPrefix(name, "/"):
			b.WriteString(" file=" + escape(name, "\n\t= "))
		}
		if v.Resident > 0 && !strings.HasPrefix(name, "[v") { // the kernel's own pages do not count
			figure := func(what string, n int64, show bool) {
				if show {
					fmt.Fprintf(b, " %s=%d", what, n)
				}
			}
			dirty := (v.SharedDirty + v.PrivateDirty) / hal.PageSize
			figure("anon", v.Anonymous, v.Anonymous > 0)
			figure("dirty", dirty, dirty > 0)
			figure("mapped", v.Resident, v.Resident != v.Anonymous && v.Resident != dirty)
			figure("mapmax", v.Mappers, v.Mappers > 1)
			figure("N0", v.Resident, true)
			figure("kernelpagesize_kB", hal.PageSize/1024, true)
		}
		b.WriteByte('\n')
	})
}

func (e *entry) smapsRollup(b *bytes.Buffer) error {
	var sum mm.VMA
	err := e.mappings(b, true, 0, func(v *mm.VMA, _ string) {
		if sum.End == 0 {
			sum.Start = v.Start
		}
		sum.End = v.End
		sum.Resident, sum.Anonymous = sum.Resident+v.Resident, sum.Anonymous+v.Anonymous
		sum.SharedClean, sum.SharedDirty = sum.SharedClean+v.SharedClean, sum.SharedDirty+v.SharedDirty
		sum.PrivateClean, sum.PrivateDirty = sum.PrivateClean+v.PrivateClean, sum.PrivateDirty+v.PrivateDirty
		sum.Pss, sum.PssDirty = sum.Pss+v.Pss, sum.PssDirty+v.PssDirty
	})
	if err == nil && sum.End == 0 {
		err = unix.ESRCH // there is no memory any more
	}
	if err != nil {
		return err
	}
	mapLine(b, &sum, "[rollup]")
	smapsFigures(b, &sum, false)
	return nil
}

// root is where the process sees files and mounts from.
func (e *entry) root() vfs.Path {
	if t := e.someone(); t != nil {
		if x := t.FS(); x != nil {
			return x.Root()
		}
	}
	return e.f.k.NS.Root()
}

func (e *entry) mountList() []vfs.MountInfo { return e.f.k.NS.MountList(e.root()) }

const mountSpecials = " \t\n\\#"

func (e *entry) mounts(b *bytes.Buffer) error {
	for _, m := range e.mountList() {
		fmt.Fprintf(b, "%s %s %s %s%s 0 0\n", source(&m), escape(m.Point, mountSpecials), m.Type, m.Options(), options(m.Opts))
	}
	return nil
}

func source(m *vfs.MountInfo) string {
	if m.Source == "" {
		return "none"
	}
	return escape(m.Source, mountSpecials)
}

func options(o string) string {
	if o == "" {
		return ""
	}
	return "," + o
}

// mountinfo is proc(5)'s: the mount's own options, then those of the file system.
func (e *entry) mountinfo(b *bytes.Buffer) error {
	for _, m := range e.mountList() {
		fmt.Fprintf(b, "%d %d %d:%d %s %s %s %s- %s %s %s%s\n", m.ID, m.Parent, unix.Major(m.Dev), unix.Minor(m.Dev),
			escape(m.Root, mountSpecials), escape(m.Point, mountSpecials), m.OwnOptions(), m.Tags, m.Type, source(&m), m.SuperOptions(), options(m.Opts))
	}
	return nil
}

func (e *entry) mountstats(b *bytes.Buffer) error {
	for _, m := range e.mountList() {
		fmt.Fprintf(b, "device %s mounted on %s with fstype %s\n", source(&m), escape(m.Point, mountSpecials), m.Type)
	}
	return nil
}
