// Package sysfs is /sys: the parts that programs read to learn about CPUs, memory nodes,
// huge pages, clocks, block devices and network interfaces.
//
//	fs := sysfs.New(sysfs.Config{Machine: m, Mem: mem, Nets: func() []sysfs.Net { … }})
//	ns.MountFS(fs, "sysfs", "/sys", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)
//
// CPUs are shown as a package each with one core, memory as one node: what Linux shows for
// a virtual machine without topology. Formats: Documentation/ABI/stable and testing.
package sysfs

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Net is a network interface.
type Net struct {
	Name    string
	Index   int
	MTU     int
	Address string // "52:54:00:12:34:56"
	Type    int    // ARPHRD_*
	Flags   uint32 // IFF_*
	Up      bool
	// QueueLen is tx_queue_len; More are attributes that not all have.
	QueueLen int
	More     map[string]string
	Bytes    func() (rx, tx, rxPackets, txPackets uint64)
}

// Block is a disk.
type Block struct {
	Name         string
	Major, Minor uint32
	Size         int64 // bytes
	ReadOnly     bool
}

// Config is what /sys shows.
type Config struct {
	Machine hal.Machine
	Mem     *mm.Memory
	Nets    func() []Net // nil: none
	Blocks  []Block
}

type tree struct {
	*pseudo.FS
	cfg Config
}

// New makes it.
func New(cfg Config) *pseudo.FS {
	t := &tree{pseudo.New(cfg.Mem, "sysfs", pseudo.SysfsMagic), cfg}
	top := t.TopDir()
	t.cpus(top.Mkdir("devices/system/cpu"))
	t.nodes(top.Mkdir("devices/system/node"))
	t.memory(top.Mkdir("devices/system/memory"))
	t.kernel(top.Mkdir("kernel"))
	c := top.Mkdir("devices/system/clocksource/clocksource0")
	c.Const("current_clocksource", "tsc\n")
	c.Const("available_clocksource", "tsc\n")
	t.blocks(top)
	for _, d := range []string{"class/tty", "class/mem", "class/dmi", "devices/virtual", "devices/pci0000:00", "bus/cpu/devices",
		"bus/pci/devices", "dev/block", "dev/char", "firmware", "fs/cgroup", "module", "power"} {
		top.Mkdir(d)
	}
	top.Mkdir("class/net").SetDynamic(netClass{t})
	return t.FS
}

// list is "0-3", or "0" for one.
func list(n int) string {
	if n <= 1 {
		return "0\n"
	}
	return fmt.Sprintf("0-%d\n", n-1)
}

// mask is the set of CPUs from lo to hi of n as Linux prints a bitmap of n bits: words of
// 32 bits in hexadecimal, the highest first, with leading zeros.
func mask(lo, hi, n int) string {
	var s strings.Builder
	for word := (n - 1) / 32; word >= 0; word-- {
		v := uint32(0)
		for cpu := max(lo, word*32); cpu <= min(hi, word*32+31); cpu++ {
			v |= 1 << (cpu % 32)
		}
		fmt.Fprintf(&s, "%0*x", (min(n-word*32, 32)+3)/4, v)
		if word > 0 {
			s.WriteByte(',')
		}
	}
	return s.String() + "\n"
}

func (t *tree) cpus(d *pseudo.Dir) {
	n := t.cfg.Machine.CPUs()
	for _, name := range []string{"online", "possible", "present"} {
		d.Const(name, list(n))
	}
	d.Const("offline", "\n")
	d.Const("isolated", "\n")
	d.Const("nohz_full", "(null)\n")
	d.Const("kernel_max", "8191\n")
	d.Const("modalias", "cpu:type:x86\n")
	v := d.Mkdir("vulnerabilities")
	for _, name := range []string{"meltdown", "spectre_v1", "spectre_v2", "l1tf", "mds"} {
		v.Const(name, "Unknown: No mitigations\n")
	}
	for i := range n {
		c := d.Mkdir("cpu" + strconv.Itoa(i))
		if i > 0 {
			c.Const("online", "1\n")
		}
		id := strconv.Itoa(i) + "\n"
		p := c.Mkdir("topology")
		p.Const("core_id", "0\n")
		p.Const("physical_package_id", id)
		p.Const("die_id", "0\n")
		for _, name := range []string{"core_cpus", "core_siblings", "thread_siblings", "die_cpus", "package_cpus"} {
			p.Const(name, mask(i, i, n))
			p.Const(name+"_list", id)
		}
		for k, cache := range t.cfg.Machine.Features().Caches {
			e := c.Mkdir("cache/index" + strconv.Itoa(k))
			for _, f := range []struct {
				name  string
				value int
			}{{"id", i}, {"level", cache.Level}, {"coherency_line_size", cache.LineSize}, {"physical_line_partition", cache.LinePartitions},
				{"ways_of_associativity", cache.Ways}, {"number_of_sets", cache.Sets}} {
				e.Const(f.name, strconv.Itoa(f.value)+"\n")
			}
			e.Const("type", cache.Type+"\n")
			e.Const("size", strconv.Itoa(cache.Size>>10)+"K\n")
			// No cache is shared, as each CPU has a package of its own.
			e.Const("shared_cpu_list", id)
			e.Const("shared_cpu_map", mask(i, i, n))
		}
		c.Symlink("node0", "../../node/node0")
	}
}

func (t *tree) nodes(d *pseudo.Dir) {
	for _, name := range []string{"online", "possible", "has_cpu", "has_memory", "has_normal_memory"} {
		d.Const(name, "0\n")
	}
	n := t.cfg.Machine.CPUs()
	e := d.Mkdir("node0")
	e.Const("cpulist", list(n))
	e.Const("cpumap", mask(0, n-1, n))
	e.Const("distance", "10\n")
	e.Text("meminfo", func(b *bytes.Buffer) {
		free := t.cfg.Machine.MemStats().FreePages * 4
		total := t.cfg.Mem.TotalPages() * 4
		for _, l := range []struct {
			name string
			kb   uint64
		}{{"MemTotal", total}, {"MemFree", free}, {"MemUsed", total - min(free, total)},
			{"FilePages", uint64(t.cfg.Mem.Count(mm.KindCache) * 4)}, {"AnonPages", uint64(t.cfg.Mem.Count(mm.KindAnon) * 4)}} {
			fmt.Fprintf(b, "Node 0 %-15s%8d kB\n", l.name+":", l.kb)
		}
	})
	e.Const("numastat", "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n")
	for i := range n {
		name := "cpu" + strconv.Itoa(i)
		e.Symlink(name, "../../cpu/"+name)
	}
	h := e.Mkdir("hugepages/hugepages-2048kB")
	for _, name := range []string{"free_hugepages", "nr_hugepages", "surplus_hugepages"} {
		h.Const(name, "0\n")
	}
}

func (t *tree) kernel(d *pseudo.Dir) {
	thp := d.Mkdir("mm/transparent_hugepage")
	// Programs that ask get small pages always: madvise(MADV_HUGEPAGE) changes nothing.
	thp.Const("enabled", "always madvise [never]\n")
	thp.Const("defrag", "always defer defer+madvise madvise [never]\n")
	thp.Const("shmem_enabled", "always within_size advise [never] deny force\n")
	thp.Const("hpage_pmd_size", "2097152\n")
	thp.Const("use_zero_page", "1\n")
	k := thp.Mkdir("khugepaged")
	k.Const("defrag", "0\n")
	h := d.Mkdir("mm/hugepages/hugepages-2048kB")
	for _, name := range []string{"nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "nr_overcommit_hugepages"} {
		h.Const(name, "0\n")
	}
	d.Const("kexec_loaded", "0\n")
	d.Const("uevent_seqnum", "0\n")
	d.Mkdir("security")
	d.Mkdir("debug")
}

func (t *tree) blocks(top *pseudo.Dir) {
	d := top.Mkdir("block")
	for _, b := range t.cfg.Blocks {
		e := d.Mkdir(b.Name)
		e.Const("dev", fmt.Sprintf("%d:%d\n", b.Major, b.Minor))
		e.Const("size", fmt.Sprintf("%d\n", b.Size/512))
		e.Const("ro", fmt.Sprintf("%d\n", map[bool]int{true: 1}[b.ReadOnly]))
		e.Const("removable", "0\n")
		e.Const("stat", "       0        0        0        0        0        0        0        0        0        0        0\n")
		q := e.Mkdir("queue")
		q.Const("rotational", "0\n")
		q.Const("logical_block_size", "512\n")
		q.Const("physical_block_size", "512\n")
		q.Const("hw_sector_size", "512\n")
		q.Const("scheduler", "[none]\n")
		q.Const("read_ahead_kb", "128\n")
		top.Mkdir("class/block").Symlink(b.Name, "../../block/"+b.Name)
	}
}

// netClass serves /sys/class/net, whose interfaces come and go.
type netClass struct{ t *tree }

func (n netClass) nets() []Net {
	if n.t.cfg.Nets == nil {
		return nil
	}
	return n.t.cfg.Nets()
}

// inoNet is where the inode numbers of interfaces begin; each has 64.
const inoNet = 1 << 32

// Lookup implements pseudo.Dynamic.
func (n netClass) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	for _, i := range n.nets() {
		if i.Name == name {
			return n.t.netDir(i), nil
		}
	}
	return nil, unix.ENOENT
}

// Names implements pseudo.Dynamic.
func (n netClass) Names(_ wait.Context, pos int64, emit func(string, uint8, uint64, int64) bool) error {
	var l []pseudo.Entry
	for _, i := range n.nets() {
		l = append(l, pseudo.Entry{Name: i.Name, Type: unix.DT_DIR, Ino: inoNet + uint64(i.Index)<<6, Cookie: int64(i.Index) + 1})
	}
	pseudo.SortedNames(l, pos, emit)
	return nil
}

func (t *tree) netDir(i Net) *pseudo.Dir {
	d := t.NewDir(inoNet + uint64(i.Index)<<6)
	state, carrier := "down", "0"
	if i.Up {
		state, carrier = "up", "1"
	}
	if i.Name == "lo" {
		state = "unknown"
	}
	for _, f := range []struct{ name, text string }{
		{"address", i.Address}, {"mtu", strconv.Itoa(i.MTU)}, {"ifindex", strconv.Itoa(i.Index)}, {"iflink", strconv.Itoa(i.Index)},
		{"type", strconv.Itoa(i.Type)}, {"flags", fmt.Sprintf("0x%x", i.Flags)}, {"operstate", state}, {"carrier", carrier},
		{"speed", "10000"}, {"duplex", "full"}, {"tx_queue_len", strconv.Itoa(i.QueueLen)}, {"addr_len", strconv.Itoa((len(i.Address) + 1) / 3)}, {"dev_id", "0x0"}, {"link_mode", "0"},
	} {
		d.Const(f.name, f.text+"\n")
	}
	for _, name := range slices.Sorted(maps.Keys(i.More)) {
		d.Const(name, i.More[name]+"\n")
	}
	if i.Bytes != nil {
		s := d.Mkdir("statistics")
		for k, name := range []string{"rx_bytes", "tx_bytes", "rx_packets", "tx_packets"} {
			s.Text(name, func(b *bytes.Buffer) {
				var v [4]uint64
				v[0], v[1], v[2], v[3] = i.Bytes()
				fmt.Fprintf(b, "%d\n", v[k])
			})
		}
		for _, name := range []string{"rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "collisions", "multicast"} {
			s.Const(name, "0\n")
		}
	}
	return d
}
