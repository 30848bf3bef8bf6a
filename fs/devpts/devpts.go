// Package devpts is the file system of pseudo-terminals: its ptmx makes a pair, and the
// slaves are its files 0, 1, 2 … for as long as their masters are open.
//
//	pts := devpts.New(host, ns)
//	ns.Register("devpts", vfs.FSType{NoDev: true, New: pts.Mount})
//	fs, err := pts.Instance("gid=5,mode=620")
//	pts.SetPrimary(fs) // whose pairs /dev/ptmx makes
//
// Every mount is an instance of its own, as since Linux 4.7. /dev/ptmx makes pairs of the
// primary instance, also where it stands in another tree.
//
// Lock order: FS.mu is a leaf.
package devpts

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kiln/fs/tty"
	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

// Magic is DEVPTS_SUPER_MAGIC; SlaveMajor the slaves' major number.
const (
	Magic      = 0x1cd1
	SlaveMajor = 136
)

// devPTMX is the number of /dev/ptmx and of an instance's ptmx.
var devPTMX = unix.Mkdev(5, 2)

const (
	// maxPairs is NR_UNIX98_PTY_MAX, the bound of max=; defaultMax and defaultReserve are
	// kernel.pty.max and kernel.pty.reserve.
	maxPairs       = 1 << 20
	defaultMax     = 4096
	defaultReserve = 1024

	rootIno, ptmxIno, slaveIno = 1, 2, 3
)

// System is all pseudo-terminals of a machine.
type System struct {
	host *tty.Host
	ns   *vfs.Namespace

	count, max, reserve atomic.Int64
	primary             atomic.Pointer[FS]
}

// New makes the device of /dev/ptmx.
func New(host *tty.Host, ns *vfs.Namespace) *System {
	s := &System{host: host, ns: ns}
	s.max.Store(defaultMax)
	s.reserve.Store(defaultReserve)
	vfs.RegisterDevice(unix.S_IFCHR, devPTMX, func(l vfs.Lookup, i vfs.Inode, _ uint32) (vfs.FileOps, error) {
		fs := s.primary.Load()
		if fs == nil {
			return nil, unix.ENODEV
		}
		return fs.newPair(l, i)
	})
	return s
}

// SetPrimary says which instance /dev/ptmx belongs to; pairs of others leave a reserve.
func (s *System) SetPrimary(fs *FS) { s.primary.Store(fs) }

// Count, Max and Reserve are /proc/sys/kernel/pty.
func (s *System) Count() int64       { return s.count.Load() }
func (s *System) Max() int64         { return s.max.Load() }
func (s *System) SetMax(n int64)     { s.max.Store(n) }
func (s *System) Reserve() int64     { return s.reserve.Load() }
func (s *System) SetReserve(n int64) { s.reserve.Store(n) }

// FS is one instance.
type FS struct {
	sys      *System
	dev      uint64
	born     int64
	uid, gid *uint32
	mode     uint32
	ptmxMode uint32
	max      int64
	root     *dir
	ptmx     *node

	mu   sync.Mutex
	busy map[int32]bool // numbers in use
	ptys map[int32]*node
}

// Mount is Instance for vfs.FSType.
func (s *System) Mount(_, options string) (vfs.FileSystem, error) { return s.Instance(options) }

// Instance makes a file system; options are uid=, gid=, mode=, ptmxmode=, max= and
// newinstance, which does nothing. EINVAL for anything else.
func (s *System) Instance(options string) (*FS, error) {
	fs := &FS{sys: s, dev: vfs.AllocDev(), mode: 0o600, max: maxPairs, busy: map[int32]bool{}, ptys: map[int32]*node{}}
	if s.host.Wall != nil {
		fs.born = s.host.Wall()
	}
	for _, o := range strings.Split(options, ",") {
		if err := fs.option(o); err != nil {
			return nil, err
		}
	}
	fs.root = &dir{node: node{fs: fs, attr: fs.attr(rootIno, unix.S_IFDIR|0o755)}}
	fs.root.attr.Nlink = 2
	fs.ptmx = &node{fs: fs, attr: fs.attr(ptmxIno, unix.S_IFCHR|fs.ptmxMode)}
	fs.ptmx.attr.Rdev = devPTMX
	return fs, nil
}

func (fs *FS) option(o string) error {
	key, val, has := strings.Cut(o, "=")
	number := func(base int) (uint32, error) {
		n, err := strconv.ParseUint(val, base, 32)
		if err != nil {
			return 0, unix.EINVAL
		}
		return uint32(n), nil
	}
	var err error
	switch {
	case o == "", o == "newinstance":
	case !has:
		return unix.EINVAL
	case key == "uid" || key == "gid":
		n, e := number(10)
		if err = e; key == "uid" {
			fs.uid = &n
		} else {
			fs.gid = &n
		}
	case key == "mode":
		fs.mode, err = number(8)
		fs.mode &= 0o7777
	case key == "ptmxmode":
		fs.ptmxMode, err = number(8)
		fs.ptmxMode &= 0o7777
	case key == "max":
		n, e := number(10)
		if err = e; n > maxPairs {
			return unix.EINVAL
		}
		fs.max = int64(n)
	default:
		return unix.EINVAL
	}
	return err
}

// Root, Type, Options, Statfs and Sync implement vfs.FileSystem.
func (fs *FS) Root() vfs.Inode         { return fs.root }
func (fs *FS) Type() string            { return "devpts" }
func (fs *FS) Sync(wait.Context) error { return nil }
func (fs *FS) Options() string {
	var b strings.Builder
	if fs.uid != nil {
		fmt.Fprintf(&b, "uid=%d,", *fs.uid)
	}
	if fs.gid != nil {
		fmt.Fprintf(&b, "gid=%d,", *fs.gid)
	}
	fmt.Fprintf(&b, "mode=%03o,ptmxmode=%03o", fs.mode, fs.ptmxMode)
	if fs.max < maxPairs {
		fmt.Fprintf(&b, ",max=%d", fs.max)
	}
	return b.String()
}

// Statfs implements vfs.FileSystem.
func (fs *FS) Statfs(wait.Context) (vfs.Statfs, error) {
	return vfs.Statfs{Type: Magic, BlockSize: 4096, NameLen: unix.NAME_MAX, NoID: true}, nil
}

func (fs *FS) attr(ino uint64, mode uint32) vfs.Attr {
	now := fs.born
	if fs.sys.host.Wall != nil {
		now = fs.sys.host.Wall()
	}
	return vfs.Attr{Dev: fs.dev, Ino: ino, Mode: mode, Nlink: 1, BlockSize: 1024, Atime: now, Mtime: now, Ctime: now}
}

// number reserves the lowest free one; ENOSPC.
func (fs *FS) number() (int32, error) {
	s := fs.sys
	limit := s.max.Load()
	if fs != s.primary.Load() {
		limit -= s.reserve.Load()
	}
	if s.count.Add(1) > limit {
		s.count.Add(-1)
		return 0, unix.ENOSPC
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for n := int32(0); int64(n) < fs.max; n++ {
		if !fs.busy[n] {
			fs.busy[n] = true
			return n, nil
		}
	}
	s.count.Add(-1)
	return 0, unix.ENOSPC
}

// unname takes the slave's name away. Its number is not free before its descriptions have
// gone: whose numbers are the same is the same terminal.
func (fs *FS) unname(n int32) {
	fs.mu.Lock()
	delete(fs.ptys, n)
	fs.mu.Unlock()
}

// free gives a number back.
func (fs *FS) free(n int32) {
	fs.mu.Lock()
	delete(fs.busy, n)
	fs.mu.Unlock()
	fs.sys.count.Add(-1)
}

// newPair opens a ptmx: i is its node, for the attributes of the description.
func (fs *FS) newPair(l vfs.Lookup, i vfs.Inode) (vfs.FileOps, error) {
	n, err := fs.number()
	if err != nil {
		return nil, err
	}
	rdev := unix.Mkdev(SlaveMajor, uint32(n))
	p, err := fs.sys.host.NewPair(rdev)
	if err != nil {
		fs.free(n)
		return nil, err
	}
	s := &node{fs: fs, pair: p, attr: fs.attr(slaveIno+uint64(n), unix.S_IFCHR|fs.mode)}
	s.attr.Rdev = rdev
	if l.Creds != nil {
		s.attr.UID, s.attr.GID = l.Creds.FSUID, l.Creds.FSGID
	}
	if fs.uid != nil {
		s.attr.UID = *fs.uid
	}
	if fs.gid != nil {
		s.attr.GID = *fs.gid
	}
	fs.mu.Lock()
	fs.ptys[n] = s
	fs.mu.Unlock()
	return p.Master(i, fs, func() { fs.unname(n) }, func() { fs.free(n) }), nil
}

// OpenPeer implements tty.Peers: the slave by way of a mount of its file system, as the
// kernel (TIOCGPTPEER). EIO if there is none.
func (fs *FS) OpenPeer(c wait.Context, p *tty.Pair, flags uint32) (*vfs.File, error) {
	at, ok := fs.sys.ns.MountOf(fs)
	if !ok {
		return nil, unix.EIO
	}
	name := strconv.Itoa(int(unix.Minor(p.Slave().Dev())))
	return fs.sys.ns.Open(vfs.Lookup{C: c, Creds: vfs.RootCreds(), At: at}, name, flags&^(unix.O_CREAT|unix.O_TRUNC|unix.O_EXCL), 0)
}

// node is a file: ptmx, or the slave of a pair.
type node struct {
	vfs.BaseInode
	fs   *FS
	pair *tty.Pair

	mu   sync.Mutex
	attr vfs.Attr
}

// Attr implements vfs.Inode.
func (n *node) Attr(wait.Context) (vfs.Attr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.attr, nil
}

// SetAttr implements vfs.Inode: chmod and chown, as grantpt(3) and login programs do.
func (n *node) SetAttr(_ wait.Context, a vfs.SetAttr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := vfs.CheckSetAttr(&n.attr, &a); err != nil {
		return err
	}
	if a.SetMode {
		n.attr.Mode = n.attr.Mode&unix.S_IFMT | a.Mode&0o7777
	}
	if a.SetUID {
		n.attr.UID = a.UID
	}
	if a.SetGID {
		n.attr.GID = a.GID
	}
	if a.SetAtime {
		n.attr.Atime = a.Atime
	}
	if a.SetMtime {
		n.attr.Mtime = a.Mtime
	}
	if n.fs.sys.host.Wall != nil {
		n.attr.Ctime = n.fs.sys.host.Wall()
	}
	return nil
}

// touchStep is how exact the time of the last use is: enough to show who is idle, not
// enough to tell one key from the next (tty_update_time).
const touchStep = 8_000_000_000

// TouchTTY implements tty.Toucher.
func (n *node) TouchTTY(now int64, write bool) {
	n.mu.Lock()
	at := &n.attr.Atime
	if write {
		at = &n.attr.Mtime
	}
	if *at/touchStep != now/touchStep {
		*at = now / 1e9 * 1e9
	}
	n.mu.Unlock()
}

// OpenFile implements vfs.FileOpener.
func (n *node) OpenFile(l vfs.Lookup, flags uint32) (vfs.FileOps, error) {
	if n.pair == nil {
		return n.fs.newPair(l, n)
	}
	if err := n.pair.MayOpen(); err != nil {
		return nil, err
	}
	t := n.pair.Slave()
	if err := t.MayOpen(l.C, flags, false); err != nil {
		return nil, err
	}
	return t.Open(n, false), nil
}

// dir is the root.
type dir struct{ node }

// Uncached implements vfs.Uncached: slaves come and go.
func (*dir) Uncached() bool { return true }

// OpenFile implements vfs.FileOpener.
func (d *dir) OpenFile(l vfs.Lookup, flags uint32) (vfs.FileOps, error) { return d.Open(l.C, flags) }

// Open implements vfs.Inode.
func (d *dir) Open(wait.Context, uint32) (vfs.FileOps, error) {
	return &vfs.DirOps{I: d, List: d.list}, nil
}

// Create implements vfs.Inode: the names are the kernel's.
func (*dir) Create(_ wait.Context, _ string, n vfs.NewNode) (vfs.Inode, error) {
	if n.Mode&unix.S_IFMT == unix.S_IFREG {
		return nil, unix.EACCES
	}
	return nil, unix.EPERM
}

// Lookup implements vfs.Inode.
func (d *dir) Lookup(_ wait.Context, name string) (vfs.Inode, error) {
	if name == "ptmx" {
		return d.fs.ptmx, nil
	}
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != name {
		return nil, unix.ENOENT
	}
	d.fs.mu.Lock()
	defer d.fs.mu.Unlock()
	if s := d.fs.ptys[int32(n)]; s != nil {
		return s, nil
	}
	return nil, unix.ENOENT
}

// list gives ".", "..", "ptmx" and the slaves in order; the position of slave n is n+3.
func (d *dir) list(_ wait.Context, pos *int64, emit func(e vfs.Dirent) bool) error {
	for i, e := range []vfs.Dirent{{Name: ".", Ino: rootIno, Type: unix.DT_DIR}, {Name: "..", Ino: rootIno, Type: unix.DT_DIR},
		{Name: "ptmx", Ino: ptmxIno, Type: unix.DT_CHR}} {
		if *pos != int64(i) {
			continue
		}
		if e.Next = *pos + 1; !emit(e) {
			return nil
		}
		*pos++
	}
	for {
		n, ok := d.fs.next(int32(*pos - 3))
		if !ok {
			return nil
		}
		e := vfs.Dirent{Name: strconv.Itoa(int(n)), Ino: slaveIno + uint64(n), Type: unix.DT_CHR, Next: int64(n) + 4}
		if !emit(e) {
			return nil
		}
		*pos = e.Next
	}
}

// next is the lowest slave from n on.
func (fs *FS) next(n int32) (best int32, ok bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for i := range fs.ptys {
		if i >= n && (!ok || i < best) {
			best, ok = i, true
		}
	}
	return best, ok
}
