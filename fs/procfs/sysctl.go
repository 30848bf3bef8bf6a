package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/anon"
	"kiln/fs/mqueue"
	"kiln/fs/pipe"
	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// intvar is a sysctl that holds numbers.
type intvar struct {
	get func() []int64
	set func(v []int64) error // nil: read-only
}

// addNumbers adds one at a path below d.
func (f *FS) addNumbers(d *pseudo.Dir, path string, v intvar) {
	dir, name := d, path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = d.Mkdir(path[:i]), path[i+1:]
	}
	perm := uint32(0o444)
	var store pseudo.Store
	if v.set != nil {
		perm = 0o644
		store = func(_ wait.Context, data []byte) error { return storeNumbers(v, data) }
	}
	dir.Add(name, f.NewFile(perm, 0, text(func(b *bytes.Buffer) {
		for i, n := range v.get() {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(strconv.FormatInt(n, 10))
		}
		b.WriteByte('\n')
	}), store))
}

// storeNumbers parses what was written as proc_dointvec does: EINVAL for what is no number;
// values that are not given keep what they are.
func storeNumbers(v intvar, data []byte) error {
	words := strings.Fields(strings.TrimRight(string(data), "\x00"))
	if len(words) == 0 {
		return nil
	}
	cur := v.get()
	for i, w := range words {
		if i == len(cur) {
			break
		}
		n, err := strconv.ParseInt(w, 0, 64)
		if err != nil {
			return unix.EINVAL
		}
		cur[i] = n
	}
	return v.set(cur)
}

// kept is a variable without effect on this kernel, that programs read and tune. lo and
// hi bound what may be written (EINVAL).
func (f *FS) kept(d *pseudo.Dir, path string, lo, hi int64, initial ...int64) {
	val := append([]int64(nil), initial...)
	f.addNumbers(d, path, intvar{
		get: func() []int64 {
			f.sys.Lock()
			defer f.sys.Unlock()
			return append([]int64(nil), val...)
		},
		set: func(v []int64) error {
			for _, n := range v {
				if n < lo || n > hi {
					return unix.EINVAL
				}
			}
			f.sys.Lock()
			copy(val, v)
			f.sys.Unlock()
			return nil
		},
	})
}

// limit adds a number that counts.
func (f *FS) limit(d *pseudo.Dir, path string, limit *atomic.Int64) {
	f.addNumbers(d, path, one(limit.Load, func(v int64) error {
		if v < 0 || v > maxInt32 {
			return unix.EINVAL
		}
		limit.Store(v)
		return nil
	}))
}

func fixed(n ...int64) intvar { return intvar{get: func() []int64 { return n }} }

func one(get func() int64, set func(n int64) error) intvar {
	v := intvar{get: func() []int64 { return []int64{get()} }}
	if set != nil {
		v.set = func(n []int64) error { return set(n[0]) }
	}
	return v
}

const (
	maxInt32 = 1<<31 - 1
	maxPTYs  = 1 << 20 // NR_UNIX98_PTY_MAX
)

// sysctl fills /proc/sys.
func (f *FS) sysctl(d *pseudo.Dir) {
	f.sysKernel(d.Mkdir("kernel"))
	f.sysVM(d.Mkdir("vm"))
	f.sysFS(d.Mkdir("fs"))
	f.sysNet(d.Mkdir("net"))
	d.Mkdir("debug")
	d.Mkdir("dev")
}

func (f *FS) sysKernel(d *pseudo.Dir) {
	k := f.k
	d.Const("ostype", "Linux\n")
	d.Const("osrelease", f.cfg.Release+"\n")
	d.Const("version", f.cfg.Version+"\n")
	d.Add("core_pattern", f.NewFile(0o644, 0, text(func(b *bytes.Buffer) { b.WriteString(k.Core.Pattern() + "\n") }), func(_ wait.Context, data []byte) error {
		s, _, _ := strings.Cut(string(data), "\n")
		return k.Core.SetPattern(s)
	}))
	d.Const("modprobe", "/sbin/modprobe\n")
	f.addText(d, "hostname", k.UTS.Hostname, k.UTS.SetHostname)
	f.addText(d, "domainname", k.UTS.Domainname, k.UTS.SetDomainname)
	f.addNumbers(d, "pid_max", fixed(32768))
	f.addNumbers(d, "cap_last_cap", fixed(40))
	f.addNumbers(d, "ngroups_max", fixed(65536))
	f.kept(d, "sched_rt_runtime_us", -1, maxInt32, 950000)
	f.kept(d, "sched_rt_period_us", 1, maxInt32, 1000000)
	f.addNumbers(d, "threads-max", one(func() int64 { return int64(k.MaxThreads()) }, nil))
	f.addNumbers(d, "ns_last_pid", one(func() int64 { _, _, last := k.Counts(); return int64(last) }, nil))
	if p := f.cfg.PTYs; p != nil {
		f.addNumbers(d, "pty/max", one(p.Max, func(n int64) error {
			if n < 0 || n > maxPTYs {
				return unix.EINVAL
			}
			p.SetMax(n)
			return nil
		}))
		f.addNumbers(d, "pty/reserve", one(p.Reserve, func(n int64) error {
			if n < 0 || n > maxPTYs {
				return unix.EINVAL
			}
			p.SetReserve(n)
			return nil
		}))
		f.addNumbers(d, "pty/nr", one(p.Count, nil))
	}
	f.kept(d, "randomize_va_space", 0, 2, 2)
	f.addNumbers(d, "core_uses_pid", intvar{
		get: func() []int64 { return []int64{k.Core.UsesPID.Load()} },
		set: func(v []int64) error { k.Core.UsesPID.Store(v[0]); return nil },
	})
	f.kept(d, "dmesg_restrict", 0, 1, 1)
	f.kept(d, "overflowuid", 0, 65535, 65534)
	f.kept(d, "overflowgid", 0, 65535, 65534)
	f.kept(d, "kptr_restrict", 0, 2, 0)
	f.kept(d, "perf_event_paranoid", -1, 4, 3)
	f.kept(d, "unprivileged_bpf_disabled", 0, 2, 2)
	f.kept(d, "yama/ptrace_scope", 0, 3, 0)
	f.kept(d, "panic", -maxInt32, maxInt32, 0)
	f.kept(d, "panic_on_oops", 0, 1, 0)
	f.kept(d, "printk", 0, maxInt32, 4, 4, 1, 7)
	f.sysIPC(d)
	r := d.Mkdir("random")
	f.addNumbers(r, "entropy_avail", fixed(256))
	f.addNumbers(r, "poolsize", fixed(256))
	f.kept(r, "write_wakeup_threshold", 0, maxInt32, 256)
	f.kept(r, "urandom_min_reseed_secs", 0, maxInt32, 60)
	r.Text("uuid", func(b *bytes.Buffer) { b.WriteString(f.newUUID() + "\n") })
	r.Text("boot_id", func(b *bytes.Buffer) { b.WriteString(f.uuid + "\n") })
	d.Mkdir("keys")
}

func (f *FS) newUUID() string {
	var u [16]byte
	f.k.M.Entropy(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // RFC 4122 4.4
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// addText is a sysctl that holds a line.
func (f *FS) addText(d *pseudo.Dir, name string, get func() string, set func(string)) {
	d.Add(name, f.NewFile(0o644, 0, text(func(b *bytes.Buffer) { b.WriteString(get() + "\n") }), func(_ wait.Context, data []byte) error {
		s, _, _ := strings.Cut(string(data), "\n")
		set(s[:min(len(s), 64)])
		return nil
	}))
}

func (f *FS) sysVM(d *pseudo.Dir) {
	f.kept(d, "overcommit_memory", 0, 2, 0)
	f.kept(d, "overcommit_ratio", 0, maxInt32, 50)
	f.kept(d, "overcommit_kbytes", 0, maxInt32, 0)
	f.kept(d, "swappiness", 0, 200, 60)
	f.kept(d, "max_map_count", 0, maxInt32, 65530)
	f.kept(d, "min_free_kbytes", 0, maxInt32, 4096)
	f.kept(d, "dirty_ratio", 0, 100, 20)
	f.kept(d, "dirty_background_ratio", 0, 100, 10)
	f.kept(d, "dirty_expire_centisecs", 0, maxInt32, 3000)
	f.kept(d, "dirty_writeback_centisecs", 0, maxInt32, 500)
	f.kept(d, "nr_hugepages", 0, 0, 0)
	f.kept(d, "nr_overcommit_hugepages", 0, 0, 0)
	f.kept(d, "oom_kill_allocating_task", 0, 1, 0)
	f.kept(d, "panic_on_oom", 0, 2, 0)
	f.kept(d, "vfs_cache_pressure", 0, maxInt32, 100)
	f.kept(d, "zone_reclaim_mode", 0, 7, 0)
	f.kept(d, "mmap_min_addr", 0, maxInt32, 65536)
	f.kept(d, "mmap_rnd_bits", 28, 32, 28)
	f.addNumbers(d, "unprivileged_userfaultfd", bounded(&anon.UnprivilegedUserfault, 0, 1))
	f.addNumbers(d, "drop_caches", intvar{get: func() []int64 { return []int64{0} }, set: func(v []int64) error {
		if v[0] < 1 || v[0] > 4 {
			return unix.EINVAL
		}
		if v[0]&2 != 0 {
			vfs.DropCaches()
		}
		if v[0]&1 != 0 {
			f.k.Mem.Reclaim(int64(f.k.Mem.TotalPages()))
		}
		return nil
	}})
}

func (f *FS) sysFS(d *pseudo.Dir) {
	f.addNumbers(d, "file-max", one(vfs.MaxFiles, func(n int64) error {
		if n < 0 {
			return unix.EINVAL
		}
		vfs.SetMaxFiles(n)
		return nil
	}))
	f.addNumbers(d, "file-nr", intvar{get: func() []int64 { return []int64{vfs.OpenFiles(), 0, vfs.MaxFiles()} }})
	f.addNumbers(d, "inode-nr", fixed(0, 0))
	f.addNumbers(d, "inode-state", fixed(0, 0, 0, 0, 0, 0, 0))
	f.addNumbers(d, "dentry-state", fixed(0, 0, 45, 0, 0, 0))
	f.addNumbers(d, "nr_open", fixed(task.MaxNofile))
	f.addNumbers(d, "pipe-max-size", one(pipe.MaxSize, func(n int64) error {
		if !pipe.SetMaxSize(n) {
			return unix.EINVAL
		}
		return nil
	}))
	f.kept(d, "pipe-user-pages-soft", 0, maxInt32, 16384)
	f.kept(d, "pipe-user-pages-hard", 0, maxInt32, 0)
	f.limit(d, "aio-max-nr", anon.AIOMax)
	f.addNumbers(d, "aio-nr", one(anon.AIOUsed.Load, nil))
	f.limit(d, "lease-break-time", &vfs.LeaseBreakTime)
	f.kept(d, "leases-enable", 0, 1, 1)
	f.limit(d, "dir-notify-enable", &vfs.DirNotifyEnable)
	f.kept(d, "mount-max", 1, maxInt32, 100000)
	f.kept(d, "suid_dumpable", 0, 2, 0)
	f.limit(d, "protected_symlinks", &vfs.ProtectedSymlinks)
	f.limit(d, "protected_hardlinks", &vfs.ProtectedHardlinks)
	for name, limit := range map[string]*atomic.Int64{"max_user_instances": anon.InotifyInstances,
		"max_user_watches": anon.InotifyWatches, "max_queued_events": anon.InotifyEvents} {
		f.limit(d, "inotify/"+name, limit)
	}
	for name, limit := range map[string]*atomic.Int64{"max_user_groups": anon.FanotifyGroups,
		"max_user_marks": anon.FanotifyMarks, "max_queued_events": anon.FanotifyEvents} {
		f.limit(d, "fanotify/"+name, limit)
	}
	if q := f.cfg.MQ; q != nil {
		f.addNumbers(d, "mqueue/queues_max", bounded(&q.QueuesMax, -maxInt32-1, maxInt32))
		f.addNumbers(d, "mqueue/msg_max", bounded(&q.MsgMax, 1, mqueue.HardMsgMax))
		f.addNumbers(d, "mqueue/msgsize_max", bounded(&q.MsgSizeMax, mqueue.MinMsgSize, mqueue.HardMsgSize))
		f.addNumbers(d, "mqueue/msg_default", bounded(&q.MsgDefault, 1, mqueue.HardMsgMax))
		f.addNumbers(d, "mqueue/msgsize_default", bounded(&q.MsgSizeDefault, mqueue.MinMsgSize, mqueue.HardMsgSize))
	}
	// Linux lets watches take 4% of memory (eventpoll_init).
	f.addNumbers(d, "epoll/max_user_watches", fixed(int64(f.k.Mem.TotalPages())*4096/25/384))
}

func (f *FS) sysNet(d *pseudo.Dir) {
	if f.cfg.Net != nil {
		n := f.cfg.Net
		f.addNumbers(d, "core/somaxconn", one(func() int64 { return int64(n.Somaxconn()) }, func(v int64) error {
			if v < 0 || v > 65535 {
				return unix.EINVAL
			}
			n.SetSomaxconn(int(v))
			return nil
		}))
		f.addNumbers(d, "ipv4/igmp_max_memberships", one(func() int64 { return int64(n.MaxMemberships()) }, func(v int64) error {
			if v < -maxInt32-1 || v > maxInt32 {
				return unix.EINVAL
			}
			n.SetMaxMemberships(int(v))
			return nil
		}))
		f.addNumbers(d, "ipv4/ip_local_port_range", intvar{
			get: func() []int64 { lo, hi := n.PortRange(); return []int64{int64(lo), int64(hi)} },
			set: func(v []int64) error {
				if v[0] < 1 || v[1] > 65535 || v[0] > v[1] {
					return unix.EINVAL
				}
				return n.SetPortRange(uint16(v[0]), uint16(v[1]))
			},
		})
		f.addNumbers(d, "ipv4/ping_group_range", intvar{
			get: func() []int64 { lo, hi := n.PingGroups(); return []int64{int64(lo), int64(hi)} },
			set: func(v []int64) error {
				if v[0] < 0 || v[1] < 0 || v[0] > maxInt32 || v[1] > maxInt32 {
					return unix.EINVAL
				}
				if v[1] < v[0] {
					v[0], v[1] = 1, 0 // nobody
				}
				n.SetPingGroups(uint32(v[0]), uint32(v[1]))
				return nil
			},
		})
	} else {
		f.kept(d, "core/somaxconn", 0, 65535, 4096)
		f.kept(d, "ipv4/ping_group_range", 0, maxInt32, 1, 0)
	}
	f.kept(d, "core/rmem_default", 2304, maxInt32, 212992)
	f.kept(d, "core/wmem_default", 4608, maxInt32, 212992)
	f.kept(d, "core/rmem_max", 2304, maxInt32, 212992)
	f.kept(d, "core/wmem_max", 4608, maxInt32, 212992)
	f.kept(d, "core/netdev_max_backlog", 0, maxInt32, 1000)
	f.kept(d, "core/optmem_max", 0, maxInt32, 20480)
	f.kept(d, "ipv4/tcp_max_syn_backlog", 0, maxInt32, 128)
	f.kept(d, "ipv4/tcp_fastopen", 0, maxInt32, 1)
	f.kept(d, "ipv4/tcp_syncookies", 0, 2, 1)
	f.kept(d, "ipv4/tcp_tw_reuse", 0, 2, 2)
	f.kept(d, "ipv4/tcp_fin_timeout", 0, maxInt32, 60)
	f.kept(d, "ipv4/tcp_keepalive_time", 0, maxInt32, 7200)
	f.kept(d, "ipv4/tcp_keepalive_intvl", 0, maxInt32, 75)
	f.kept(d, "ipv4/tcp_keepalive_probes", 0, maxInt32, 9)
	f.kept(d, "ipv4/tcp_sack", 0, 1, 1)
	f.kept(d, "ipv4/tcp_timestamps", 0, 2, 1)
	f.kept(d, "ipv4/tcp_window_scaling", 0, 1, 1)
	f.kept(d, "ipv4/tcp_rmem", 1, maxInt32, 4096, 131072, 6291456)
	f.kept(d, "ipv4/tcp_wmem", 1, maxInt32, 4096, 16384, 4194304)
	f.kept(d, "ipv4/ip_forward", 0, 1, 0)
	f.kept(d, "ipv4/ip_unprivileged_port_start", 0, 65535, 1024)
	f.kept(d, "ipv4/ip_nonlocal_bind", 0, 1, 0)
	d.Mkdir("ipv4").Const("tcp_congestion_control", "cubic\n")
	d.Mkdir("ipv4").Const("tcp_available_congestion_control", "reno cubic\n")
	f.kept(d, "ipv6/bindv6only", 0, 1, 0)
	f.kept(d, "ipv6/conf/all/disable_ipv6", 0, 1, 0)
	f.kept(d, "ipv6/conf/default/disable_ipv6", 0, 1, 0)
	f.kept(d, "ipv6/conf/lo/disable_ipv6", 0, 1, 0)
	f.kept(d, "ipv6/conf/lo/forwarding", 0, 1, 0)
	f.kept(d, "unix/max_dgram_qlen", 0, maxInt32, 10)
}
