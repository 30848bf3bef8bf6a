package procfs

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// global adds the files about the machine.
func (f *FS) global(d *pseudo.Dir) {
	d.Text("meminfo", f.meminfo)
	d.Text("cpuinfo", f.cpuinfo)
	d.Text("stat", f.stat)
	d.Text("uptime", f.uptime)
	d.Text("loadavg", f.loadavg)
	d.Text("version", func(b *bytes.Buffer) {
		fmt.Fprintf(b, "Linux version %s (kiln) %s\n", f.cfg.Release, f.cfg.Version)
	})
	d.Text("cmdline", func(b *bytes.Buffer) { b.WriteString(strings.TrimSpace(f.cfg.Cmdline) + "\n") })
	d.Text("filesystems", f.filesystems)
	d.Text("vmstat", f.vmstat)
	d.Text("locks", f.locks)
	d.Text("interrupts", f.interrupts)
	d.Text("softirqs", func(b *bytes.Buffer) { f.cpuHeader(b, 20) })
	if f.cfg.Messages != nil {
		d.Add("kmsg", &kmsgFile{f.NewFile(0o400, 0, nil, nil), f.cfg.Messages})
	}
	d.Const("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n")
	d.Const("devices", "Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n128 ptm\n136 pts\n\nBlock devices:\n")
	d.Const("diskstats", "")
	d.Const("partitions", "major minor  #blocks  name\n\n")
	d.Const("modules", "")
	d.Const("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
	d.Const("misc", "")
	d.Const("crypto", "")
	d.Const("consoles", "ttyS0                -W- (EC   )    4:64\n")
	for _, n := range []string{"cpu", "io", "memory"} {
		s := "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
		d.Mkdir("pressure").Const(n, s)
	}
	d.Mkdir("bus")
	f.sysvipc(d.Mkdir("sysvipc"))
	d.Mkdir("tty").Const("drivers", ttyDrivers)
	d.Mkdir("tty").Const("ldiscs", "n_tty       0\n")
	d.Mkdir("tty/driver")
}

// ttyDrivers is show_tty_driver's table: ps finds a terminal's name by its number here.
const ttyDrivers = `/dev/tty             /dev/tty        5       0 system:/dev/tty
/dev/console         /dev/console    5       1 system:console
/dev/ptmx            /dev/ptmx       5       2 system
serial               /dev/ttyS       4      64 serial
pty_slave            /dev/pts      136 0-1048575 pty:slave
pty_master           /dev/ptm      128 0-1048575 pty:master
`

func (f *FS) meminfo(b *bytes.Buffer) {
	mem := f.k.Mem
	st := f.k.M.MemStats()
	cache, shmem, anon := mem.Count(mm.KindCache), mem.Count(mm.KindShmem), mem.Count(mm.KindAnon)
	free := int64(st.FreePages)
	avail := max(free+cache-int64(st.LowWatermark), 0)
	kb := func(name string, pages int64) { fmt.Fprintf(b, "%-16s%8d kB\n", name+":", max(pages, 0)*4) }
	kb("MemTotal", int64(mem.TotalPages()))
	kb("MemFree", free)
	kb("MemAvailable", avail)
	kb("Buffers", 0)
	kb("Cached", cache+shmem)
	kb("SwapCached", 0)
	kb("Active", anon)
	kb("Inactive", cache)
	kb("Active(anon)", anon)
	kb("Inactive(anon)", shmem)
	kb("Active(file)", 0)
	kb("Inactive(file)", cache)
	kb("Unevictable", 0)
	kb("Mlocked", 0)
	kb("SwapTotal", 0)
	kb("SwapFree", 0)
	kb("Dirty", 0)
	kb("Writeback", 0)
	kb("AnonPages", anon)
	kb("Mapped", cache)
	kb("Shmem", shmem)
	kb("KReclaimable", 0)
	// What is charged is in use; the rest of the kernel's memory is its collector's.
	used := min(mem.Budget().Used()>>hal.PageShift, int64(st.KernelPages))
	kb("Slab", int64(st.KernelPages))
	kb("SReclaimable", int64(st.KernelPages)-used)
	kb("SUnreclaim", used)
	kb("KernelStack", 0)
	kb("PageTables", 0)
	kb("Bounce", 0)
	kb("CommitLimit", int64(mem.TotalPages())/2)
	kb("Committed_AS", mem.Committed())
	fmt.Fprintf(b, "VmallocTotal:   34359738367 kB\nVmallocUsed:           0 kB\nVmallocChunk:          0 kB\n")
	kb("Percpu", 0)
	kb("AnonHugePages", 0)
	b.WriteString("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n")
}

func (f *FS) cpuinfo(b *bytes.Buffer) {
	ft := f.k.M.Features()
	mhz := float64(ft.TSCHz) / 1e6
	n := f.k.M.CPUs()
	for i := range n {
		fmt.Fprintf(b, "processor\t: %d\nvendor_id\t: %s\ncpu family\t: %d\nmodel\t\t: %d\nmodel name\t: %s\nstepping\t: %d\nmicrocode\t: 0x1\n",
			i, ft.Vendor, ft.Family, ft.Model, ft.Brand, ft.Stepping)
		fmt.Fprintf(b, "cpu MHz\t\t: %.3f\ncache size\t: 0 KB\nphysical id\t: %d\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: %d\ninitial apicid\t: %d\n",
			mhz, i, i, i)
		fmt.Fprintf(b, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: %s\nbugs\t\t:\nbogomips\t: %.2f\n",
			strings.Join(ft.Flags, " "), mhz*2)
		b.WriteString("clflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: 40 bits physical, 48 bits virtual\npower management:\n\n")
	}
}

// used is the CPU time of all processes, nanoseconds.
func (f *FS) used() (user, system int64) {
	for _, p := range f.k.Processes() {
		u := p.Usage()
		user += u.User
		system += u.System
	}
	return user, system
}

func (f *FS) stat(b *bytes.Buffer) {
	user, system := f.used()
	n := int64(f.k.M.CPUs())
	up := f.k.M.Nanotime()
	idle := max(up*n-user-system, 0)
	line := func(name string, d int64) {
		fmt.Fprintf(b, "%s %d 0 %d %d 0 0 0 0 0 0\n", name, user/d/tick, system/d/tick, idle/d/tick)
	}
	line("cpu ", 1)
	for i := range n {
		line(fmt.Sprintf("cpu%d", i), n)
	}
	running, queued, switches := f.k.Sched.Load()
	_, forks, _ := f.k.Counts()
	fmt.Fprintf(b, "%s\nctxt %d\nbtime %d\nprocesses %d\nprocs_running %d\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
		f.interruptTotals(), switches, (f.k.M.Walltime()-up)/1e9, forks, running+queued)
}

func (f *FS) uptime(b *bytes.Buffer) {
	user, system := f.used()
	up := f.k.M.Nanotime()
	idle := max(up*int64(f.k.M.CPUs())-user-system, 0)
	fmt.Fprintf(b, "%d.%02d %d.%02d\n", up/1e9, up/1e7%100, idle/1e9, idle/1e7%100)
}

func (f *FS) loadavg(b *bytes.Buffer) {
	for _, v := range f.k.LoadAverages() {
		v += 1 << task.LoadShift / 200 // rounded to hundredths
		fmt.Fprintf(b, "%d.%02d ", v>>task.LoadShift, v&(1<<task.LoadShift-1)*100>>task.LoadShift)
	}
	running, queued, _ := f.k.Sched.Load()
	threads, _, last := f.k.Counts()
	fmt.Fprintf(b, "%d/%d %d\n", running+queued, threads, last)
}

func (f *FS) filesystems(b *bytes.Buffer) {
	var names []string
	nodev := map[string]bool{}
	f.k.NS.Types(func(n string, t vfs.FSType) { names = append(names, n); nodev[n] = t.NoDev })
	for _, n := range []string{"proc", "sysfs", "devtmpfs", "overlay", "pipefs", "sockfs"} {
		if _, ok := nodev[n]; !ok {
			names, nodev[n] = append(names, n), true
		}
	}
	if _, ok := nodev["erofs"]; !ok {
		names = append(names, "erofs")
	}
	sort.Strings(names)
	for _, n := range names {
		if nodev[n] {
			b.WriteString("nodev")
		}
		b.WriteString("\t" + n + "\n")
	}
}

func (f *FS) vmstat(b *bytes.Buffer) {
	mem, st := f.k.Mem, f.k.M.MemStats()
	min, maj := uint64(0), uint64(0)
	for _, p := range f.k.Processes() {
		u := p.Usage()
		min, maj = min+u.MinFlt+u.MajFlt, maj+u.MajFlt
	}
	fmt.Fprintf(b, "nr_free_pages %d\nnr_anon_pages %d\nnr_file_pages %d\nnr_shmem %d\nnr_mapped %d\nnr_dirty 0\nnr_writeback 0\n",
		st.FreePages, mem.Count(mm.KindAnon), mem.Count(mm.KindCache)+mem.Count(mm.KindShmem), mem.Count(mm.KindShmem), mem.Count(mm.KindCache))
	fmt.Fprintf(b, "pgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault %d\npgmajfault %d\noom_kill 0\n", min, maj)
}

func (f *FS) locks(b *bytes.Buffer) {
	i := 0
	vfs.Locks(func(flock bool, r vfs.RecordLock) {
		i++
		lockLine(b, i, flock, &r)
	})
}

// lockLine is one of /proc/locks and of "lock:" in fdinfo (lock_get_status).
func lockLine(b *bytes.Buffer, i int, flock bool, r *vfs.RecordLock) {
	kind, mode := "POSIX ", "READ"
	if flock {
		kind = "FLOCK "
	} else if r.OFD() {
		kind = "OFDLCK"
	}
	if r.Write {
		mode = "WRITE"
	}
	end := "EOF"
	if r.End != math.MaxInt64 {
		end = fmt.Sprint(r.End - 1)
	}
	fmt.Fprintf(b, "%d: %s ADVISORY  %-5s %d %02x:%02x:%d %d %s\n", i, kind, mode, r.PID, unix.Major(r.Dev), unix.Minor(r.Dev), r.Ino, r.Start, end)
}

func (f *FS) cpuHeader(b *bytes.Buffer, indent int) {
	b.WriteString(strings.Repeat(" ", indent/2+1))
	for i := range f.k.M.CPUs() {
		fmt.Fprintf(b, "%-11s", fmt.Sprintf("CPU%d", i))
	}
	b.WriteByte('\n')
}

// irqs are the machine's counts, nil where it keeps none.
func (f *FS) irqs() []hal.IRQCount {
	if m, ok := f.k.M.(hal.IRQCounter); ok {
		return m.IRQCounts()
	}
	return nil
}

// interrupts are counted for the machine and shown at its first CPU: which one served an
// interrupt is not kept.
func (f *FS) interrupts(b *bytes.Buffer) {
	f.cpuHeader(b, 20)
	irqs := f.irqs()
	slices.SortStableFunc(irqs, func(x, y hal.IRQCount) int { return x.Number - y.Number })
	for _, own := range []bool{false, true} {
		for _, q := range irqs {
			label, kind := fmt.Sprintf("%3d", q.Number), q.Kind+"   "
			if own {
				label, kind = q.Kind, ""
			}
			if own != (q.Number < 0) {
				continue
			}
			fmt.Fprintf(b, "%s: %10d ", label, q.Count)
			for range f.k.M.CPUs() - 1 {
				fmt.Fprintf(b, "%10d ", 0)
			}
			fmt.Fprintf(b, "  %s%s\n", kind, q.Name)
		}
	}
}

// interruptTotals is the line of /proc/stat: the sum, then one count for each number.
func (f *FS) interruptTotals() string {
	var sum uint64
	var each []uint64
	for _, q := range f.irqs() {
		sum += q.Count
		if q.Number < 0 {
			continue
		}
		for len(each) <= q.Number {
			each = append(each, 0)
		}
		each[q.Number] += q.Count
	}
	s := fmt.Sprintf("intr %d", sum)
	for _, n := range each {
		s += fmt.Sprintf(" %d", n)
	}
	return s
}

// netDir is /proc/net of a process (there is one network).
func (f *FS) netDir(ino uint64) *pseudo.Dir {
	d := f.NewDir(ino)
	d.SetDynamic(netFiles{f, ino})
	return d
}

// netFiles serves the files of /proc/net, which are the same for all.
type netFiles struct {
	f   *FS
	ino uint64
}

func (n netFiles) index(name string) int {
	for i, x := range n.f.cfg.NetFiles {
		if x == name {
			return i
		}
	}
	return -1
}

// Lookup implements pseudo.Dynamic.
func (n netFiles) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	i := n.index(name)
	if n.f.cfg.Net == nil || i < 0 {
		return nil, unix.ENOENT
	}
	return n.f.NewFile(0o444, n.ino+1+uint64(i), func(_ wait.Context, b *bytes.Buffer) error {
		text, ok := n.f.cfg.Net.ProcFile(name)
		if !ok {
			return unix.ENOENT
		}
		b.Write(text)
		return nil
	}, nil), nil
}

// Names implements pseudo.Dynamic.
func (n netFiles) Names(_ wait.Context, pos int64, emit func(string, uint8, uint64, int64) bool) error {
	if n.f.cfg.Net == nil {
		return nil
	}
	var list []pseudo.Entry
	for i, name := range n.f.cfg.NetFiles {
		list = append(list, pseudo.Entry{Name: name, Type: unix.DT_REG, Ino: n.ino + 1 + uint64(i), Cookie: int64(i) + 1})
	}
	pseudo.SortedNames(list, pos, emit)
	return nil
}
