package procfs

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// look is whether the caller may see what is not everybody's of the process: EACCES.
func (e *entry) look(c wait.Context) error {
	if t := thread(c); t != nil && !t.MayLook(e.p, e.creds()) {
		return unix.EACCES
	}
	return nil
}

// lookAtSpace is look with the memory of the program that the answer is about.
func (e *entry) lookAtSpace(c wait.Context) (s *mm.Space, err error) {
	err = e.p.Steady(func() error {
		s = e.p.Space()
		return e.look(c)
	})
	return s, err
}

func (e *entry) io(b *bytes.Buffer) error {
	var n task.IOCounts
	if e.group || e.t == nil {
		n = e.p.IO()
	} else {
		n = e.t.IO()
	}
	// There is no count of what storage was read and written for whom.
	fmt.Fprintf(b, "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n",
		n.ReadBytes, n.WrittenBytes, n.Reads, n.Writes)
	return nil
}

// places are where Linux's threads wait, by the system call: what wchan names.
var places = map[int64]string{
	unix.SYS_WAIT4: "do_wait", unix.SYS_WAITID: "do_wait",
	unix.SYS_NANOSLEEP: "hrtimer_nanosleep", unix.SYS_CLOCK_NANOSLEEP: "hrtimer_nanosleep",
	unix.SYS_FUTEX:      "futex_wait_queue",
	unix.SYS_EPOLL_WAIT: "ep_poll", unix.SYS_EPOLL_PWAIT: "ep_poll", unix.SYS_EPOLL_PWAIT2: "ep_poll",
	unix.SYS_POLL: "do_sys_poll", unix.SYS_PPOLL: "do_sys_poll", unix.SYS_SELECT: "do_select", unix.SYS_PSELECT6: "do_select",
	unix.SYS_PAUSE: "__do_sys_pause", unix.SYS_RT_SIGSUSPEND: "sigsuspend", unix.SYS_RT_SIGTIMEDWAIT: "do_sigtimedwait",
	unix.SYS_ACCEPT: "inet_csk_accept", unix.SYS_ACCEPT4: "inet_csk_accept",
	unix.SYS_RECVFROM: "__skb_wait_for_more_packets", unix.SYS_RECVMSG: "__skb_wait_for_more_packets",
	unix.SYS_READ: "wait_woken", unix.SYS_READV: "wait_woken", unix.SYS_WRITE: "wait_woken", unix.SYS_WRITEV: "wait_woken",
	unix.SYS_MSGRCV: "do_msgrcv", unix.SYS_MSGSND: "do_msgsnd", unix.SYS_SEMOP: "do_semtimedop", unix.SYS_SEMTIMEDOP: "do_semtimedop",
	unix.SYS_FLOCK: "locks_lock_inode_wait", unix.SYS_VFORK: "kernel_clone", unix.SYS_CLONE: "kernel_clone",
}

// wchan is where the thread waits, 0 where that is not known or it runs.
func (e *entry) wchan(b *bytes.Buffer) error {
	at := "0"
	if e.t != nil {
		if nr, _, _, _, ok := e.t.Asleep(); ok {
			if p, ok := places[nr]; ok {
				at = p
			}
		}
	}
	b.WriteString(at)
	return nil
}

// syscall is what a blocked thread was called for (proc_pid_syscall).
func (e *entry) syscall(b *bytes.Buffer) error {
	if e.t == nil {
		b.WriteString("running\n")
		return nil
	}
	nr, a, sp, pc, ok := e.t.Asleep()
	switch {
	case !ok:
		b.WriteString("running\n")
	case nr < 0:
		fmt.Fprintf(b, "-1 0x%x 0x%x\n", sp, pc)
	default:
		fmt.Fprintf(b, "%d 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x\n", nr, a[0], a[1], a[2], a[3], a[4], a[5], sp, pc)
	}
	return nil
}

// children are those of the process, which are shown at its leader (CONFIG_PROC_CHILDREN).
func (e *entry) children(b *bytes.Buffer) error {
	if e.id != e.p.PID() {
		return nil
	}
	pids := e.p.Children()
	slices.Sort(pids)
	for _, pid := range pids {
		fmt.Fprintf(b, "%d ", pid)
	}
	return nil
}

// sched is the readable form of the scheduler's figures (proc_sched_show_task).
func (e *entry) sched(b *bytes.Buffer) error {
	u := e.usage()
	var sp task.SchedParam
	if e.t != nil {
		sp = e.t.SchedParam()
	}
	fmt.Fprintf(b, "%s (%d, #threads: %d)\n%s\n", e.name(), e.id, e.p.NumThreads(), strings.Repeat("-", 67))
	ms := func(ns int64) string { return fmt.Sprintf("%d.%06d", ns/1e6, ns%1e6) }
	line := func(name, v string) { fmt.Fprintf(b, "%-45s:%21s\n", name, v) }
	line("se.exec_start", ms(e.f.k.M.Nanotime()))
	line("se.sum_exec_runtime", ms(u.User+u.System))
	line("se.nr_migrations", "0")
	line("nr_switches", strconv.FormatUint(u.Voluntary+u.Involuntary, 10))
	line("nr_voluntary_switches", strconv.FormatUint(u.Voluntary, 10))
	line("nr_involuntary_switches", strconv.FormatUint(u.Involuntary, 10))
	line("policy", strconv.Itoa(int(sp.Policy)))
	p := 120 + sp.Nice
	if sp.Policy == unix.SCHED_FIFO || sp.Policy == unix.SCHED_RR {
		p = 99 - sp.Priority
	}
	line("prio", strconv.Itoa(int(p)))
	return nil
}

// timers lists those of timer_create (proc_timers).
func (e *entry) timers(b *bytes.Buffer) error {
	how := []string{"signal", "none", "thread"}
	list := e.p.PosixTimers()
	slices.SortFunc(list, func(x, y task.TimerInfo) int { return int(x.ID - y.ID) })
	for _, t := range list {
		whom, id := "pid", e.p.PID()
		if t.TID != 0 {
			whom, id = "tid", t.TID
		}
		fmt.Fprintf(b, "ID: %d\nsignal: %d/%016x\nnotify: %s/%s.%d\nClockID: %d\n", t.ID, t.Signo, t.Value, how[t.Notify&^4%3], whom, id, t.Clock)
	}
	return nil
}

func (e *entry) coreFilter(b *bytes.Buffer) error {
	fmt.Fprintf(b, "%08x\n", e.p.CoreFilter())
	return nil
}

// coreFilterMask is the bits that coredump_filter has (MMF_DUMP_FILTER_MASK).
const coreFilterMask = 0x1ff

// setCoreFilter: EINVAL for what is no number.
func (e *entry) setCoreFilter(_ wait.Context, data []byte) error {
	v, err := strconv.ParseUint(strings.TrimSpace(string(data)), 0, 32)
	if err != nil {
		return unix.EINVAL
	}
	e.p.SetCoreFilter(uint32(v) & coreFilterMask)
	return nil
}

// visible is whether hidepid= lets the caller see a process (has_pid_permissions); less is
// the least level that would hide it.
func (f *FS) visible(c wait.Context, p *task.Process, less int32) bool {
	h := f.hide.Load()
	t := thread(c)
	if h.level < less || t == nil {
		return true
	}
	if h.level != hideUntraceable {
		cr := t.Creds()
		if cr.FSGID == h.gid || slices.Contains(cr.Groups, h.gid) {
			return true
		}
	}
	e := entry{f: f, p: p, t: p.Leader(), group: true}
	return t.MayLook(p, e.creds())
}

// Levels of hidepid=.
const (
	hideNoAccess    = 1
	hideInvisible   = 2
	hideUntraceable = 4
)

// hiding is hidepid= and gid=.
type hiding struct {
	level int32
	gid   uint32
}

var hideNames = map[string]int32{"0": 0, "off": 0, "1": 1, "noaccess": 1, "2": 2, "invisible": 2, "4": 4, "ptraceable": 4}

// Remount implements vfs.Remounter: hidepid= and gid=; EINVAL for anything else.
func (f *FS) Remount(options string) error {
	h := *f.hide.Load()
	for _, o := range strings.Split(options, ",") {
		key, val, _ := strings.Cut(o, "=")
		switch key {
		case "":
		case "hidepid":
			level, ok := hideNames[val]
			if !ok {
				return unix.EINVAL
			}
			h.level = level
		case "gid":
			n, err := strconv.ParseUint(val, 10, 32)
			if err != nil {
				return unix.EINVAL
			}
			h.gid = uint32(n)
		default:
			return unix.EINVAL
		}
	}
	f.hide.Store(&h)
	return nil
}

// Options implements vfs.FileSystem.
func (f *FS) Options() string {
	h := f.hide.Load()
	var o []string
	if h.gid != 0 {
		o = append(o, fmt.Sprintf("gid=%d", h.gid))
	}
	if h.level != 0 {
		o = append(o, "hidepid="+map[int32]string{1: "noaccess", 2: "invisible", 4: "ptraceable"}[h.level])
	}
	return strings.Join(o, ",")
}
