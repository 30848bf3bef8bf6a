package sysfs_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/sysfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

type rig struct {
	t    *testing.T
	ns   *vfs.Namespace
	l    vfs.Lookup
	nets []sysfs.Net
}

func newRig(t *testing.T, cpus int) *rig {
	m := fake.New(2048)
	m.NumCPU = cpus
	r := &rig{t: t}
	fs := sysfs.New(sysfs.Config{Machine: m, Mem: mm.NewMemory(m), Nets: func() []sysfs.Net { return r.nets },
		Blocks: []sysfs.Block{{Name: "vda", Major: 254, Minor: 0, Size: 3 << 20, ReadOnly: true}, {Name: "vdb", Major: 254, Minor: 16, Size: 1 << 30}}})
	r.ns = vfs.NewNamespace(fs, "sysfs", 0)
	r.l = vfs.Lookup{C: wait.Background(), FS: vfs.NewFSContext(r.ns), Creds: vfs.RootCreds()}
	return r
}

func (r *rig) read(name string) string {
	r.t.Helper()
	f, err := r.ns.Open(r.l, name, unix.O_RDONLY, 0)
	if err != nil {
		r.t.Errorf("%s: %v", name, err)
		return ""
	}
	defer f.DecRef()
	b := make([]byte, 4096)
	q := mm.KernelIO(b)
	n, err := f.Read(r.l.C, &q)
	if err != nil {
		r.t.Errorf("%s: %v", name, err)
	}
	return string(b[:n])
}

func (r *rig) names(dir string) (out []string) {
	r.t.Helper()
	f, err := r.ns.Open(r.l, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		r.t.Fatalf("%s: %v", dir, err)
	}
	defer f.DecRef()
	err = f.Iterate(r.l.C, func(d vfs.Dirent) bool {
		if d.Name != "." && d.Name != ".." {
			out = append(out, d.Name)
		}
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// What sched_getaffinity's users, glibc's get_nprocs and the Go runtime parse.
func TestCPUsAreListedAsLinuxListsThem(t *testing.T) {
	for n, want := range map[int]string{1: "0\n", 2: "0-1\n", 40: "0-39\n"} {
		r := newRig(t, n)
		for _, name := range []string{"online", "possible", "present"} {
			if s := r.read("/devices/system/cpu/" + name); s != want {
				t.Errorf("%d CPUs: %s is %q", n, name, s)
			}
		}
		if s := r.read("/devices/system/node/node0/cpulist"); s != want {
			t.Errorf("node0 has the CPUs %q", s)
		}
		count := 0
		for _, name := range r.names("/devices/system/cpu") {
			if d, ok := strings.CutPrefix(name, "cpu"); ok && strings.Trim(d, "0123456789") == "" {
				count++
			}
		}
		if count != n {
			t.Errorf("%d folders for %d CPUs", count, n)
		}
	}
	r := newRig(t, 40)
	for cpu, mask := range map[string]string{"0": "00,00000001\n", "31": "00,80000000\n", "32": "01,00000000\n", "39": "80,00000000\n"} {
		top := "/devices/system/cpu/cpu" + cpu
		if s := r.read(top + "/topology/thread_siblings"); s != mask {
			t.Errorf("CPU %s alone is the mask %q", cpu, s)
		}
		if s := r.read(top + "/topology/thread_siblings_list"); s != cpu+"\n" {
			t.Errorf("CPU %s is with %q", cpu, s)
		}
	}
	if s := r.read("/devices/system/node/node0/cpumap"); s != "ff,ffffffff\n" {
		t.Errorf("the node's mask is %q", s)
	}
	if s := newRig(t, 1).read("/devices/system/node/node0/cpumap"); s != "1\n" {
		t.Errorf("the mask of one CPU is %q", s)
	}
}

func TestNodeMemoryAddsUp(t *testing.T) {
	r := newRig(t, 1)
	kb := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(r.read("/devices/system/node/node0/meminfo")), "\n") {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] != "Node" || f[1] != "0" || f[4] != "kB" {
			t.Fatalf("%q", line)
		}
		n := 0
		for _, c := range f[3] {
			n = n*10 + int(c-'0')
		}
		kb[f[2]] = n
	}
	if kb["MemTotal:"] == 0 || kb["MemFree:"]+kb["MemUsed:"] != kb["MemTotal:"] {
		t.Error(kb)
	}
}

func TestInterfacesComeAndGo(t *testing.T) {
	r := newRig(t, 1)
	if l := r.names("/class/net"); len(l) != 0 {
		t.Error(l)
	}
	rx := uint64(7)
	lo := sysfs.Net{Name: "lo", Index: 1, MTU: 65536, Address: "00:00:00:00:00:00", Type: 772, Flags: unix.IFF_UP | unix.IFF_LOOPBACK, Up: true}
	eth := sysfs.Net{Name: "eth0", Index: 2, MTU: 1500, QueueLen: 500, More: map[string]string{"tun_flags": "0x1002"}, Address: "52:54:00:12:34:56", Type: 1,
		Bytes: func() (uint64, uint64, uint64, uint64) { return rx, 2, 3, 4 }}
	r.nets = []sysfs.Net{lo, eth}
	if l := r.names("/class/net"); !slices.Equal(l, []string{"eth0", "lo"}) {
		t.Error(l)
	}
	for name, want := range map[string]string{"lo/operstate": "unknown", "lo/mtu": "65536", "lo/type": "772", "lo/flags": "0x9",
		"eth0/operstate": "down", "eth0/carrier": "0", "eth0/address": "52:54:00:12:34:56", "eth0/ifindex": "2", "eth0/statistics/rx_bytes": "7",
		"eth0/tx_queue_len": "500", "eth0/addr_len": "6", "eth0/tun_flags": "0x1002",
		"eth0/statistics/tx_packets": "4"} {
		if s := r.read("/class/net/" + name); s != want+"\n" {
			t.Errorf("%s is %q", name, s)
		}
	}
	rx = 1 << 40
	r.nets[1].Up = true
	if s := r.read("/class/net/eth0/statistics/rx_bytes"); s != "1099511627776\n" {
		t.Errorf("a counter stands still: %q", s)
	}
	if s := r.read("/class/net/eth0/operstate"); s != "up\n" {
		t.Errorf("%q", s)
	}
	r.nets = r.nets[:1]
	if _, _, err := r.ns.Stat(r.l, "/class/net/eth0", vfs.WalkFollow); err != unix.ENOENT {
		t.Errorf("an interface that is gone: %v", err)
	}
}

func TestDisksHaveSizesInSectorsAndLinks(t *testing.T) {
	r := newRig(t, 1)
	for name, want := range map[string]string{"vda/size": "6144", "vda/ro": "1", "vda/dev": "254:0", "vdb/size": "2097152", "vdb/ro": "0",
		"vdb/queue/logical_block_size": "512"} {
		if s := r.read("/block/" + name); s != want+"\n" {
			t.Errorf("%s is %q", name, s)
		}
		if s := r.read("/class/block/" + name); s != want+"\n" {
			t.Errorf("by class: %s is %q", name, s)
		}
	}
}

func TestNothingIsWritable(t *testing.T) {
	r := newRig(t, 1)
	if _, err := r.ns.Open(r.l, "/new", unix.O_CREAT|unix.O_WRONLY, 0o644); err != unix.EACCES && err != unix.EPERM && err != unix.EROFS {
		t.Errorf("a new file: %v", err)
	}
	if err := r.ns.Mkdir(r.l, "/kernel/new", 0o755); err != unix.EPERM && err != unix.EACCES && err != unix.EROFS {
		t.Errorf("a new folder: %v", err)
	}
	f, err := r.ns.Open(r.l, "/kernel/mm/transparent_hugepage/enabled", unix.O_WRONLY, 0)
	if err == nil {
		q := mm.KernelIO([]byte("always"))
		_, err = f.Write(r.l.C, &q)
		f.DecRef()
	}
	if err == nil || r.read("/kernel/mm/transparent_hugepage/enabled") != "always madvise [never]\n" {
		t.Errorf("a setting was taken: %v", err)
	}
}

func TestMemoryStaysOnline(t *testing.T) {
	r := newRig(t, 1)
	const dir = "/devices/system/memory/"
	if got := r.read(dir + "block_size_bytes"); got != "8000000\n" {
		t.Errorf("a block has %q", got)
	}
	if got := r.read(dir + "memory0/state"); got != "online\n" {
		t.Errorf("memory0 is %q", got)
	}
	for _, c := range []struct {
		file, value string
		want        error
	}{{"state", "offline\n", unix.EBUSY}, {"state", "online", unix.EINVAL}, {"state", "gone", unix.EINVAL},
		{"online", "0", unix.EBUSY}, {"online", "1\n", nil}, {"online", "x", unix.EINVAL}} {
		f, err := r.ns.Open(r.l, dir+"memory0/"+c.file, unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		q := mm.KernelIO([]byte(c.value))
		if _, err := f.Write(r.l.C, &q); err != c.want {
			t.Errorf("%q to %s: %v, want %v", c.value, c.file, err, c.want)
		}
		f.DecRef()
	}
}
