package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
)

// maxArgs bounds what cmdline and environ copy (Linux has no bound but the stack's).
const maxArgs = 2 << 20

// entry is a process and, in its task directory, a thread: what one numbered directory
// shows.
type entry struct {
	f *FS
	p *task.Process
	t *task.Thread // the thread; for /proc/PID the leader, nil once it is gone
	// group says that it is /proc/PID, whose figures are the process's.
	group bool
	id    int32
	// at is the program whose memory a description shows, that of the moment when it was
	// opened; nil: the one that runs.
	at *task.Image
}

// procDir is /proc/PID.
func (f *FS) procDir(p *task.Process) *pseudo.Dir {
	e := &entry{f: f, p: p, t: p.Leader(), group: true, id: p.PID()}
	if e.t == nil {
		e.t = p.Corpse()
	}
	d := e.dir()
	d.SetOwner(e.user)
	d.SetGuard(func(c wait.Context) error {
		if !f.visible(c, p, hideNoAccess) {
			return unix.EPERM
		}
		return nil
	})
	return d
}

// threadDir is /proc/PID/task/TID.
func (f *FS) threadDir(p *task.Process, t *task.Thread) *pseudo.Dir {
	e := &entry{f: f, p: p, t: t, id: t.TID()}
	return e.dir()
}

// perm and file numbers: the order of this table gives the inode numbers.
type procFile struct {
	name  string
	perm  uint32
	show  func(e *entry, b *bytes.Buffer) error
	store func(e *entry, c wait.Context, data []byte) error
	// memory: for who may trace the process when he opens the file, which goes on to show the
	// memory of that moment's program.
	memory bool
	// denied, if set, is what who may not trace the process gets when he reads.
	denied error
	admin  bool // needs CAP_SYS_ADMIN
}

var procFiles = []procFile{
	{name: "status", perm: 0o444, show: (*entry).status},
	{name: "stat", perm: 0o444, show: (*entry).stat},
	{name: "statm", perm: 0o444, show: (*entry).statm},
	{name: "cmdline", perm: 0o444, show: (*entry).cmdline},
	{name: "comm", perm: 0o644, show: (*entry).comm, store: (*entry).setComm},
	{name: "environ", perm: 0o400, show: (*entry).environ, memory: true},
	{name: "auxv", perm: 0o400, show: (*entry).auxv, memory: true},
	{name: "limits", perm: 0o444, show: (*entry).limits},
	{name: "maps", perm: 0o444, show: (*entry).maps, memory: true},
	{name: "numa_maps", perm: 0o444, show: (*entry).numaMaps, memory: true},
	{name: "smaps", perm: 0o444, show: (*entry).smaps, memory: true},
	{name: "smaps_rollup", perm: 0o444, show: (*entry).smapsRollup, memory: true},
	{name: "mounts", perm: 0o444, show: (*entry).mounts},
	{name: "mountinfo", perm: 0o444, show: (*entry).mountinfo},
	{name: "mountstats", perm: 0o400, show: (*entry).mountstats},
	{name: "cgroup", perm: 0o444, show: constant("0::/\n")},
	{name: "cpuset", perm: 0o444, show: constant("/\n")},
	{name: "io", perm: 0o400, show: (*entry).io, denied: unix.EACCES},
	{name: "oom_score", perm: 0o444, show: (*entry).oomScore},
	{name: "oom_score_adj", perm: 0o644, show: (*entry).oomScoreAdj, store: (*entry).setOOMScoreAdj},
	{name: "oom_adj", perm: 0o644, show: (*entry).oomAdj, store: (*entry).setOOMAdj},
	{name: "coredump_filter", perm: 0o644, show: (*entry).coreFilter, store: (*entry).setCoreFilter},
	{name: "loginuid", perm: 0o644, show: constant("4294967295"), store: ignore},
	{name: "sessionid", perm: 0o444, show: constant("4294967295")},
	{name: "personality", perm: 0o400, show: (*entry).personality, denied: unix.EPERM},
	{name: "schedstat", perm: 0o444, show: (*entry).schedstat},
	{name: "timerslack_ns", perm: 0o666, show: (*entry).timerSlack},
	{name: "uid_map", perm: 0o644, show: constant("         0          0 4294967295\n")},
	{name: "gid_map", perm: 0o644, show: constant("         0          0 4294967295\n")},
	{name: "setgroups", perm: 0o644, show: constant("allow\n")},
	{name: "wchan", perm: 0o444, show: (*entry).wchan},
	{name: "syscall", perm: 0o400, show: (*entry).syscall, denied: unix.EPERM},
	{name: "stack", perm: 0o400, show: constant(""), denied: unix.EPERM, admin: true},
	{name: "sched", perm: 0o644, show: (*entry).sched, store: ignore},
	{name: "timers", perm: 0o444, show: (*entry).timers},
	{name: "children", perm: 0o444, show: (*entry).children},
}

func constant(s string) func(*entry, *bytes.Buffer) error {
	return func(_ *entry, b *bytes.Buffer) error { b.WriteString(s); return nil }
}

func ignore(*entry, wait.Context, []byte) error { return nil }

// Numbers of the other nodes, behind those of procFiles.
const (
	inoFD = 200 + iota
	inoFDInfo
	inoTask
	inoExe
	inoCwd
	inoRoot
	inoNS            // and its links
	inoNet     = 300 // and its files
	inoMem     = 399
	inoPageMap = 398
)

// The entries of /proc/PID: procFiles, then these. A thread's directory has all but the
// last.
const (
	entExe = iota
	entCwd
	entRoot
	entNS
	entFD
	entFDInfo
	entNet
	entMem
	entPageMap
	entTask
)

var (
	others       = []string{"exe", "cwd", "root", "ns/", "fd/", "fdinfo/", "net/", "mem", "pagemap", "task/"}
	procLayout   = layout(others)
	threadLayout = layout(others[:entTask])
	nsNames      = []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"}
	nsLayout     = pseudo.NewLayout(nsNames...)
)

func layout(more []string) *pseudo.Layout {
	var names []string
	for i := range procFiles {
		names = append(names, procFiles[i].name)
	}
	return pseudo.NewLayout(append(names, more...)...)
}

func (e *entry) ino(n uint64) uint64 {
	if !e.group {
		n += 1024
	}
	return inoOf(e.id, n)
}

func (e *entry) dir() *pseudo.Dir {
	d := e.newDir(0)
	if e.group {
		d.Tag = e.p
		d.SetLayout(procLayout, e.node)
	} else {
		d.SetLayout(threadLayout, e.node)
	}
	return d
}

func (e *entry) newDir(ino uint64) *pseudo.Dir {
	d := e.f.NewDir(e.ino(ino))
	d.SetOwner(e.owner)
	return d
}

// node makes entry i.
func (e *entry) node(i int) vfs.Inode {
	if i < len(procFiles) {
		return e.file(i)
	}
	switch i - len(procFiles) {
	case entExe:
		return e.link(inoExe, e.exe)
	case entCwd:
		return e.link(inoCwd, func() (vfs.Path, *vfs.File, error) { return e.place((*vfs.FSContext).Cwd) })
	case entRoot:
		return e.link(inoRoot, func() (vfs.Path, *vfs.File, error) { return e.place((*vfs.FSContext).Root) })
	case entNS:
		d := e.newDir(inoNS)
		d.SetLayout(nsLayout, e.nsLink)
		return d
	case entFD:
		d := e.newDir(inoFD)
		d.SetMode(0o500)
		// A process that has changed its user is no longer the owner (proc_fd_permission).
		d.SetLenient(func(c wait.Context) bool { t := thread(c); return t != nil && t.Process() == e.p })
		d.SetDynamic(fdDir{e, false})
		return d
	case entFDInfo:
		d := e.newDir(inoFDInfo)
		d.SetGuard(e.look)
		d.SetDynamic(fdDir{e, true})
		return d
	case entNet:
		return e.f.netDir(e.ino(inoNet))
	case entMem:
		return e.memFile()
	case entPageMap:
		return e.pageMapFile()
	}
	d := e.newDir(inoTask)
	d.SetDynamic(taskDir{e.f, e.p})
	return d
}

// file makes one of procFiles.
func (e *entry) file(i int) vfs.Inode {
	pf := &procFiles[i]
	var store pseudo.Store
	if pf.store != nil {
		store = func(c wait.Context, data []byte) error { return pf.store(e, c, data) }
	}
	n := e.f.NewFile(pf.perm, e.ino(uint64(i)+1), e.shows(pf), store)
	n.SetOwner(e.owner)
	switch {
	case pf.memory:
		n.SetOpen(func(c wait.Context) (pseudo.Show, error) {
			o := *e
			err := e.p.Steady(func() error {
				o.at = e.p.Image()
				return e.look(c)
			})
			if err != nil {
				return nil, err
			}
			return o.shows(pf), nil
		})
	case pf.admin:
		n.SetGuard(func(c wait.Context) error {
			if t := thread(c); t != nil && !t.Creds().Can(unix.CAP_SYS_ADMIN) {
				return unix.EACCES
			}
			return nil
		})
	}
	return n
}

// shows is what a read of the file gets.
func (e *entry) shows(pf *procFile) pseudo.Show {
	return func(c wait.Context, b *bytes.Buffer) error {
		if !e.alive() {
			return unix.ESRCH
		}
		if pf.denied != nil && e.look(c) != nil {
			return pf.denied
		}
		return pf.show(e, b)
	}
}

// image is the program whose memory e shows.
func (e *entry) image() *task.Image {
	img := e.p.Image()
	if e.at != nil && (img == nil || img.Space != e.at.Space) {
		return e.at
	}
	return img
}

// link makes one that leads to a place or a file.
func (e *entry) link(ino uint64, get func() (vfs.Path, *vfs.File, error)) vfs.Inode {
	m := e.f.NewMagic(e.ino(ino), func(c wait.Context) (string, error) {
		if err := e.look(c); err != nil {
			return "", err
		}
		p, f, err := get()
		if err != nil {
			return "", err
		}
		if f != nil {
			defer f.DecRef()
			return f.Name, nil
		}
		return e.f.k.NS.Name(p, e.f.k.NS.Root()), nil
	}, func(l vfs.Lookup) (vfs.Path, *vfs.File, error) {
		if err := e.look(l.C); err != nil {
			return vfs.Path{}, nil, err
		}
		return get()
	})
	m.SetOwner(e.owner)
	return m
}

// exe is the program's file.
func (e *entry) exe() (vfs.Path, *vfs.File, error) {
	img := e.p.Image()
	if img == nil || img.Exe == nil {
		return vfs.Path{}, nil, unix.ENOENT
	}
	if img.Exe.Path.Valid() {
		return img.Exe.Path, nil, nil
	}
	if !img.Exe.TryIncRef() { // the process has just ended, or executes another program
		return vfs.Path{}, nil, unix.ENOENT
	}
	return vfs.Path{}, img.Exe, nil
}

// place is the working directory or the root.
func (e *entry) place(pick func(*vfs.FSContext) vfs.Path) (vfs.Path, *vfs.File, error) {
	if t := e.someone(); t != nil {
		if x := t.FS(); x != nil {
			return pick(x), nil, nil
		}
	}
	return vfs.Path{}, nil, unix.ENOENT
}

func (e *entry) nsLink(i int) vfs.Inode {
	return e.f.NewLink(e.ino(inoNS+1+uint64(i)), func(wait.Context) (string, error) {
		return fmt.Sprintf("%s:[%d]", strings.TrimSuffix(nsNames[i], "_for_children"), 4026531834+i), nil
	})
}

// alive says whether the process or thread still exists: a descriptor of a file of one
// that has gone reads ESRCH.
func (e *entry) alive() bool {
	if e.group {
		return e.f.k.Process(e.id) == e.p
	}
	return e.f.k.Thread(e.id) == e.t || e.t == e.p.Corpse() && e.f.k.Process(e.p.PID()) == e.p
}

// someone is a live thread to ask, nil for a zombie.
func (e *entry) someone() *task.Thread {
	if e.t != nil && e.t.FDs() != nil {
		return e.t
	}
	if e.group {
		for _, t := range e.p.Threads() {
			return t
		}
	}
	return nil
}

func (e *entry) creds() *vfs.Creds {
	t := e.someone()
	if t == nil {
		t = e.t
	}
	if t != nil {
		if c := t.Creds(); c != nil {
			return c
		}
	}
	return &vfs.Creds{}
}

// user is whose process it is; owner has its files: root those of one that may not be
// dumped (task_dump_owner).
func (e *entry) user() (uid, gid uint32) { c := e.creds(); return c.EUID, c.EGID }

func (e *entry) owner() (uid, gid uint32) {
	if e.p.Dumpable() != 1 {
		return 0, 0
	}
	return e.user()
}

// space is the address space, kept until the function it returns is called; nil for a
// zombie.
func (e *entry) space() (*mm.Space, func()) {
	s := e.p.Space()
	if e.at != nil {
		s = e.at.Space
	}
	if s == nil || !s.TryIncUsers() {
		return nil, func() {}
	}
	return s, s.DecUsers
}

// taskDir serves /proc/PID/task.
type taskDir struct {
	f *FS
	p *task.Process
}

// Lookup implements pseudo.Dynamic.
func (d taskDir) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	tid, ok := number(name)
	if ok {
		if t := d.f.k.Thread(tid); t != nil && t.Process() == d.p {
			return d.f.threadDir(d.p, t), nil
		}
		if t := d.p.Corpse(); t != nil && tid == d.p.PID() && d.f.k.Process(tid) == d.p {
			return d.f.threadDir(d.p, t), nil
		}
	}
	return nil, unix.ENOENT
}

// Dirs implements pseudo.Counter.
func (d taskDir) Dirs() int { return max(int(d.p.NumThreads()), 1) } // a zombie's is there

// Names implements pseudo.Dynamic.
func (d taskDir) Names(_ wait.Context, pos int64, emit func(string, uint8, uint64, int64) bool) error {
	var list []pseudo.Entry
	ids := []int32{}
	for _, t := range d.p.Threads() {
		ids = append(ids, t.TID())
	}
	if len(ids) == 0 {
		ids = append(ids, d.p.PID()) // a zombie's
	}
	for _, id := range ids {
		list = append(list, pseudo.Entry{Name: strconv.Itoa(int(id)), Type: unix.DT_DIR, Ino: inoOf(id, 1024), Cookie: int64(id)})
	}
	pseudo.SortedNames(list, pos, emit)
	return nil
}

// fdDir serves fd and fdinfo.
type fdDir struct {
	e    *entry
	info bool
}

func (d fdDir) table() *vfs.FDTable {
	if t := d.e.someone(); t != nil {
		return t.FDs()
	}
	return nil
}

// Lookup implements pseudo.Dynamic.
func (d fdDir) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	fd, ok := number(name)
	tab := d.table()
	if !ok || tab == nil {
		return nil, unix.ENOENT
	}
	file := tab.Get(fd)
	if file == nil {
		return nil, unix.ENOENT
	}
	r, w := file.Readable(), file.Writable()
	file.DecRef()
	f := d.e.f
	if d.info {
		return f.NewFile(0o444, inoOf(d.e.id, 3*inoFDs+uint64(fd)), func(c wait.Context, b *bytes.Buffer) error { return d.fdinfo(c, fd, b) }, nil), nil
	}
	perm := uint32(0)
	if r {
		perm |= 0o500
	}
	if w {
		perm |= 0o300
	}
	get := func() (*vfs.File, error) {
		if tab := d.table(); tab != nil {
			if file := tab.Get(fd); file != nil {
				return file, nil
			}
		}
		return nil, unix.ENOENT
	}
	m := f.NewMagic(inoOf(d.e.id, 2*inoFDs+uint64(fd)), func(c wait.Context) (string, error) {
		if err := d.e.look(c); err != nil {
			return "", err
		}
		file, err := get()
		if err != nil {
			return "", err
		}
		defer file.DecRef()
		if file.Path.Valid() {
			return f.k.NS.Name(file.Path, f.k.NS.Root()), nil
		}
		return file.Name, nil
	}, func(l vfs.Lookup) (vfs.Path, *vfs.File, error) {
		if err := d.e.look(l.C); err != nil {
			return vfs.Path{}, nil, err
		}
		file, err := get()
		if err != nil {
			return vfs.Path{}, nil, err
		}
		if file.Path.Valid() {
			defer file.DecRef()
			return file.Path, nil, nil
		}
		return vfs.Path{}, file, nil
	})
	m.SetMode(perm)
	m.SetOwner(d.e.owner)
	return m, nil
}

// Names implements pseudo.Dynamic.
func (d fdDir) Names(_ wait.Context, pos int64, emit func(string, uint8, uint64, int64) bool) error {
	tab := d.table()
	if tab == nil {
		return nil
	}
	typ, base := uint8(unix.DT_LNK), uint64(2*inoFDs)
	if d.info {
		typ, base = unix.DT_REG, 3*inoFDs
	}
	tab.Range(func(fd int32, _ *vfs.File, _ bool) bool {
		if int64(fd)+1 <= pos {
			return true
		}
		return emit(strconv.Itoa(int(fd)), typ, inoOf(d.e.id, base+uint64(fd)), int64(fd)+1)
	})
	return nil
}

// largeFile is O_LARGEFILE, which open(2) sets on Linux for 64-bit programs.
const largeFile = 0x8000

// fdinfo is seq_show of fs/proc/fd.c.
func (d fdDir) fdinfo(c wait.Context, fd int32, b *bytes.Buffer) error {
	tab := d.table()
	if tab == nil {
		return unix.ENOENT
	}
	file := tab.Get(fd)
	if file == nil {
		return unix.ENOENT
	}
	defer file.DecRef()
	flags := file.Flags()
	if on, _ := tab.CloseOnExec(fd); on {
		flags |= unix.O_CLOEXEC
	}
	pos, ino := int64(0), uint64(0)
	if file.Path.Valid() {
		flags |= largeFile
	}
	if file.Ops.Seekable() {
		pos = file.Pos(c)
	}
	if a, err := file.Ops.Attr(c); err == nil {
		ino = a.Ino
	}
	fmt.Fprintf(b, "pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n", pos, flags, file.Path.MountID(), ino)
	n := 0
	file.Locks(func(flock bool, r vfs.RecordLock) {
		n++
		b.WriteString("lock:\t")
		lockLine(b, n, flock, &r)
	})
	if x, ok := file.Ops.(vfs.FDInfoer); ok {
		x.FDInfo(c, b)
	}
	return nil
}

// memory reads program memory of another process.
func (e *entry) memory(b *bytes.Buffer, from, to hal.UserAddr) error {
	s, done := e.space()
	defer done()
	if s == nil || to <= from {
		return nil
	}
	buf := make([]byte, min(uint64(to-from), maxArgs))
	n, _ := s.CopyIn(wait.Background(), buf, from)
	b.Write(buf[:n])
	return nil
}

// cmdline is the arguments as the program left them; beyond the end of a rewritten
// title Linux goes on into the environment (setproctitle).
func (e *entry) cmdline(b *bytes.Buffer) error {
	img := e.p.Image()
	if img == nil {
		return nil
	}
	if err := e.memory(b, img.ArgStart, img.ArgEnd); err != nil || b.Len() == 0 {
		return err
	}
	if b.Bytes()[b.Len()-1] == 0 {
		return nil
	}
	n := b.Len()
	_ = e.memory(b, img.EnvStart, img.EnvEnd)
	if i := bytes.IndexByte(b.Bytes()[0:], 0); i >= 0 {
		b.Truncate(i)
	} else {
		b.Truncate(n)
	}
	return nil
}

func (e *entry) environ(b *bytes.Buffer) error {
	if img := e.image(); img != nil {
		return e.memory(b, img.EnvStart, img.EnvEnd)
	}
	return nil
}

func (e *entry) auxv(b *bytes.Buffer) error {
	if img := e.image(); img != nil {
		b.Write(img.Auxv)
	}
	return nil
}

func (e *entry) name() string {
	if e.t != nil {
		return e.t.Name()
	}
	if e.p.Supervises() {
		return "init"
	}
	return ""
}

func (e *entry) comm(b *bytes.Buffer) error {
	b.WriteString(e.name())
	b.WriteByte('\n')
	return nil
}

// setComm: only threads of the process itself may (EINVAL).
func (e *entry) setComm(c wait.Context, data []byte) error {
	t := thread(c)
	if t == nil || t.Process() != e.p || e.t == nil {
		return unix.EINVAL
	}
	e.t.Rename(strings.TrimRight(string(data), "\n\x00"))
	return nil
}
