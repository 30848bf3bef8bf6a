package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// tick is USER_HZ in nanoseconds.
const tick = 1e7

func (e *entry) state() byte {
	switch {
	case e.group:
		return e.p.State()
	case e.t == e.p.Corpse():
		return 'Z'
	}
	return e.t.State()
}

var stateNames = map[byte]string{'R': "R (running)", 'S': "S (sleeping)", 'D': "D (disk sleep)",
	'T': "T (stopped)", 't': "t (tracing stop)", 'X': "X (dead)", 'Z': "Z (zombie)", 'I': "I (idle)"}

func (e *entry) usage() task.Usage {
	if e.group || e.t == nil {
		return e.p.Usage()
	}
	return e.t.Usage()
}

// memUsage is mm's figures, in pages; zero for a zombie.
func (e *entry) memUsage(walk bool) (u mm.Usage, peak int64) {
	s, done := e.space()
	defer done()
	if s == nil {
		return
	}
	if walk {
		u = s.Usage()
	} else {
		u.Resident = s.Resident()
	}
	return u, max(e.p.Usage().MaxRSS, u.Resident)
}

// stat is one line of 52 fields (do_task_stat).
func (e *entry) stat(b *bytes.Buffer) error {
	u, use := e.usage(), mm.Usage{}
	use, _ = e.memUsage(true)
	img := e.p.Image()
	if img == nil {
		img = &task.Image{}
	}
	var nice, policy, prio int32
	var pending, blocked, ignored, caught task.SigSet
	cpu, threads := 0, e.numThreads()
	start := e.p.StartTime()
	if t := e.t; t != nil {
		sp := t.SchedParam()
		nice, policy, prio = sp.Nice, sp.Policy, sp.Priority
		pending, _, blocked, ignored, caught = t.SignalSets()
		cpu = max(t.CPU(), 0)
		if !e.group {
			start = t.StartTime()
		}
	}
	priority := int64(20 + nice)
	if policy == unix.SCHED_FIFO || policy == unix.SCHED_RR {
		priority = -1 - int64(prio)
	}
	tty, group := e.terminal()
	fmt.Fprintf(b, "%d (%s) %c %d %d %d %d %d 4194304", e.id, e.name(), e.state(), e.p.PPID(), e.p.PGID(), e.p.SID(), tty, group)
	fmt.Fprintf(b, " %d 0 %d 0 %d %d %d %d", u.MinFlt, u.MajFlt, u.User/tick, u.System/tick, u.ChildUser/tick, u.ChildSystem/tick)
	fmt.Fprintf(b, " %d %d %d 0 %d %d %d %d", priority, nice, threads, start/tick, use.Total*hal.PageSize, use.Resident, e.p.Limit(task.RlimitRSS))
	fmt.Fprintf(b, " %d %d %d 0 0", img.CodeStart, img.CodeEnd, img.StackStart)
	fmt.Fprintf(b, " %d %d %d %d 0 0 0 17 %d %d %d 0 0 0", uint64(pending)&0x7fffffff, uint64(blocked)&0x7fffffff,
		uint64(ignored)&0x7fffffff, uint64(caught)&0x7fffffff, cpu, prio, policy)
	fmt.Fprintf(b, " %d 0 0 %d %d %d %d 0\n", img.DataStart, img.ArgStart, img.ArgEnd, img.EnvStart, img.EnvEnd)
	return nil
}

// numThreads counts the last thread of a zombie, as Linux does.
func (e *entry) numThreads() int { return max(e.p.NumThreads(), 1) }

// terminal is the controlling terminal's device number and foreground group; 0 and -1
// where there is none.
func (e *entry) terminal() (dev uint64, group int32) {
	t := e.p.TTY()
	if t == nil {
		return 0, -1
	}
	if group = t.Foreground(); group == 0 {
		group = -1
	}
	return t.Dev(), group
}

func (e *entry) statm(b *bytes.Buffer) error {
	u, _ := e.memUsage(true)
	fmt.Fprintf(b, "%d %d %d %d 0 %d 0\n", u.Total, u.Resident, u.Shared, u.Text, u.Data+u.Stack)
	return nil
}

// status is proc_pid_status.
func (e *entry) status(b *bytes.Buffer) error {
	cr := e.creds()
	umask, slots := uint32(0o22), 0
	if t := e.someone(); t != nil {
		if x := t.FS(); x != nil {
			umask = x.Mask()
		}
		if fds := t.FDs(); fds != nil {
			slots = fds.Size()
		}
	}
	fmt.Fprintf(b, "Name:\t%s\nUmask:\t%04o\nState:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n",
		escape(e.name(), "\n\\"), umask, stateNames[e.state()], e.p.PID(), e.id, e.p.PPID(), e.tracer())
	fmt.Fprintf(b, "Uid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nFDSize:\t%d\nGroups:\t", cr.UID, cr.EUID, cr.SUID, cr.FSUID,
		cr.GID, cr.EGID, cr.SGID, cr.FSGID, slots)
	for _, g := range cr.Groups {
		fmt.Fprintf(b, "%d ", g)
	}
	fmt.Fprintf(b, "\nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", e.p.PID(), e.id, e.p.PGID(), e.p.SID())
	e.statusMem(b)
	e.statusSignals(b)
	fmt.Fprintf(b, "CapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\nCapAmb:\t%016x\nNoNewPrivs:\t%d\n",
		cr.Inheritable, cr.Permitted, cr.Effective, cr.Bounding, cr.Ambient, bit(cr.NoNewPrivs))
	mode, filters := 0, 0
	if t := e.someone(); t != nil {
		mode, filters = t.SeccompMode(), t.SeccompCount()
	}
	fmt.Fprintf(b, "Seccomp:\t%d\nSeccomp_filters:\t%d\n", mode, filters)
	b.WriteString("Speculation_Store_Bypass:\tnot vulnerable\nSpeculationIndirectBranch:\tnot affected\n")
	mask := e.f.k.Sched.AllCPUs()
	if e.t != nil {
		mask = e.t.Affinity()
	}
	u := e.usage()
	fmt.Fprintf(b, "Cpus_allowed:\t%x\nCpus_allowed_list:\t%s\nMems_allowed:\t1\nMems_allowed_list:\t0\n", mask, bitList(mask))
	fmt.Fprintf(b, "voluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n", u.Voluntary, u.Involuntary)
	return nil
}

func (e *entry) statusMem(b *bytes.Buffer) {
	if e.p.Space() == nil {
		return
	}
	u, peak := e.memUsage(true)
	kb := func(name string, pages int64) { fmt.Fprintf(b, "%s:\t%8d kB\n", name, pages*4) }
	kb("VmPeak", u.Total)
	kb("VmSize", u.Total)
	kb("VmLck", u.Locked)
	kb("VmPin", 0)
	kb("VmHWM", peak)
	kb("VmRSS", u.Resident)
	kb("RssAnon", u.Resident-u.Shared)
	kb("RssFile", u.Shared-u.Shmem)
	kb("RssShmem", u.Shmem)
	kb("VmData", u.Data)
	kb("VmStk", u.Stack)
	exe := u.Text
	if img := e.p.Image(); img != nil {
		exe = min(int64(img.CodeEnd-img.CodeStart+hal.PageMask)>>hal.PageShift, u.Text)
	}
	kb("VmExe", exe)
	kb("VmLib", u.Text-exe)
	kb("VmPTE", u.Tables)
	kb("VmSwap", 0)
	kb("HugetlbPages", 0)
	b.WriteString("CoreDumping:\t0\nTHP_enabled:\t0\n")
}

func (e *entry) statusSignals(b *bytes.Buffer) {
	var pending, shared, blocked, ignored, caught task.SigSet
	if e.t != nil {
		pending, shared, blocked, ignored, caught = e.t.SignalSets()
	}
	fmt.Fprintf(b, "Threads:\t%d\nSigQ:\t%d/%d\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\n",
		e.numThreads(), e.f.k.QueuedSignals(), e.p.Limit(task.RlimitSigpending), uint64(pending), uint64(shared), uint64(blocked), uint64(ignored), uint64(caught))
}

func bit(v bool) int {
	if v {
		return 1
	}
	return 0
}

// bitList is a mask as cpulist has it: "0-3,5".
func bitList(mask uint64) string {
	var out []string
	for i := 0; i < 64; i++ {
		if mask>>i&1 == 0 {
			continue
		}
		k := i
		for k < 63 && mask>>(k+1)&1 != 0 {
			k++
		}
		if k == i {
			out = append(out, strconv.Itoa(i))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", i, k))
		}
		i = k
	}
	return strings.Join(out, ",")
}

// limitNames is the table of /proc/PID/limits (fs/proc/base.c lnames).
var limitNames = [task.NumLimits][2]string{
	{"Max cpu time", "seconds"}, {"Max file size", "bytes"}, {"Max data size", "bytes"}, {"Max stack size", "bytes"},
	{"Max core file size", "bytes"}, {"Max resident set", "bytes"}, {"Max processes", "processes"}, {"Max open files", "files"},
	{"Max locked memory", "bytes"}, {"Max address space", "bytes"}, {"Max file locks", "locks"}, {"Max pending signals", "signals"},
	{"Max msgqueue size", "bytes"}, {"Max nice priority", ""}, {"Max realtime priority", ""}, {"Max realtime timeout", "us"},
}

func (e *entry) limits(b *bytes.Buffer) error {
	fmt.Fprintf(b, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units")
	val := func(v uint64) string {
		if v == task.RlimInfinity {
			return "unlimited"
		}
		return strconv.FormatUint(v, 10)
	}
	for i, n := range limitNames {
		l := e.p.Rlimit(i)
		fmt.Fprintf(b, "%-25s %-20s %-20s ", n[0], val(l.Cur), val(l.Max))
		if n[1] != "" {
			fmt.Fprintf(b, "%-10s", n[1])
		}
		b.WriteByte('\n')
	}
	return nil
}

func (e *entry) oomScoreAdj(b *bytes.Buffer) error {
	fmt.Fprintf(b, "%d\n", e.p.OOMAdj())
	return nil
}

func (e *entry) oomAdj(b *bytes.Buffer) error {
	v := e.p.OOMAdj() * 17 / 1000
	if e.p.OOMAdj() == 1000 {
		v = 15
	}
	fmt.Fprintf(b, "%d\n", v)
	return nil
}

func (e *entry) oomScore(b *bytes.Buffer) error {
	fmt.Fprintf(b, "%d\n", e.p.OOMScore())
	return nil
}

// setOOMAdj is the old scale: -17 (exempt) to 15 (the most).
func (e *entry) setOOMAdj(c wait.Context, data []byte) error {
	v, err := strconv.ParseInt(strings.TrimSpace(string(data)), 0, 32)
	if err != nil || v < -17 || v > 15 {
		return unix.EINVAL
	}
	if v == 15 {
		return e.adjustOOM(c, 1000)
	}
	return e.adjustOOM(c, int32(v*1000/17))
}

// setOOMScoreAdj: EINVAL beyond ±1000, EACCES to lower it without CAP_SYS_RESOURCE below
// what somebody with it has set.
func (e *entry) setOOMScoreAdj(c wait.Context, data []byte) error {
	v, err := strconv.ParseInt(strings.TrimSpace(string(data)), 0, 32)
	if err != nil || v < -1000 || v > 1000 {
		return unix.EINVAL
	}
	return e.adjustOOM(c, int32(v))
}

func (e *entry) adjustOOM(c wait.Context, v int32) error {
	t := thread(c)
	if !e.p.AdjustOOM(v, t == nil || t.Creds().Can(unix.CAP_SYS_RESOURCE)) {
		return unix.EACCES
	}
	return nil
}

func (e *entry) personality(b *bytes.Buffer) error {
	fmt.Fprintf(b, "%08x\n", e.p.Personality())
	return nil
}

func (e *entry) schedstat(b *bytes.Buffer) error {
	u := e.usage()
	fmt.Fprintf(b, "%d 0 %d\n", u.User+u.System, u.Voluntary+u.Involuntary)
	return nil
}

func (e *entry) timerSlack(b *bytes.Buffer) error {
	n := int64(50000)
	if e.t != nil {
		n = int64(e.t.TimerSlack())
	}
	fmt.Fprintf(b, "%d\n", n)
	return nil
}
