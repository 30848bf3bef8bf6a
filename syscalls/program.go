package syscalls

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/wait"
	"kiln/loader"
	"kiln/loader/vdso"
)

// Program says what LoadProgram loads and for whom.
type Program struct {
	C   wait.Context
	Mem *mm.Memory
	NS  *vfs.Namespace
	// Lookup is where paths start and whose permissions count.
	Lookup vfs.Lookup
	// Path is what execve was given. File, if set, is the program itself and stays
	// the caller's; scripts then see Path as their name.
	Path      string
	File      *vfs.File
	Argv, Env []string
	// Creds are those of the new program; nil: Lookup's.
	Creds *vfs.Creds
	// Secure is AT_SECURE, NoRandom ADDR_NO_RANDOMIZE, Unreachable a Path that the
	// new program cannot open (loader.Request).
	Secure, NoRandom, Unreachable bool
	Limits                        mm.Limits
	VDSO                          *vdso.VDSO
}

// LoadProgram makes a program ready to run: for execve and for process 1
// (task.StartArgs.Image). The image's space has one user and its Exe one reference,
// both the caller's. Errors are loader.Load's.
func LoadProgram(p Program) (task.Image, error) {
	c := p.Creds
	if c == nil {
		c = p.Lookup.Creds
	}
	if c == nil {
		c = vfs.RootCreds()
	}
	r := loader.Request{
		Open: func(path string) (loader.File, error) {
			f, err := p.NS.OpenExec(p.Lookup, path)
			if err != nil {
				return nil, err
			}
			return p.file(f)
		},
		Filename: p.Path, Argv: p.Argv, Env: p.Env,
		UID: c.UID, EUID: c.EUID, GID: c.GID, EGID: c.EGID, Secure: p.Secure,
		NoRandom: p.NoRandom, Unreachable: p.Unreachable, Limits: p.Limits, VDSO: p.VDSO,
	}
	if p.File != nil {
		p.File.IncRef()
		f, err := p.file(p.File)
		if err != nil {
			return task.Image{}, err
		}
		defer f.DecRef()
		r.File = f
	}
	img, err := loader.Load(p.C, p.Mem, r)
	if err != nil {
		return task.Image{}, err
	}
	return task.Image{
		Space: img.Space, Entry: img.Entry, SP: img.SP, Exe: img.Exe.(*progFile).f, Name: p.Path,
		ArgStart: img.Args.Start, ArgEnd: img.Args.End, EnvStart: img.Envs.Start, EnvEnd: img.Envs.End,
		StackStart: img.StackStart, CodeStart: img.Code.Start, CodeEnd: img.Code.End, DataStart: img.Data.Start,
		Auxv: img.Auxv,
	}, nil
}

// progFile is an open program as the loader wants it.
type progFile struct {
	f        *vfs.File
	obj      *mm.Object
	name     string
	dev, ino uint64
}

// file takes over f's reference.
func (p *Program) file(f *vfs.File) (loader.File, error) {
	obj, err := f.Ops.Object(p.C)
	if err != nil && err != unix.ENODEV {
		f.DecRef()
		return nil, err
	}
	at, err := f.Ops.Attr(p.C)
	if err != nil {
		f.DecRef()
		return nil, err
	}
	name := f.Name
	if f.Path.Valid() {
		root := p.NS.Root()
		if p.Lookup.FS != nil {
			root = p.Lookup.FS.Root()
		}
		name = p.NS.Name(f.Path, root)
	}
	return &progFile{f, obj, name, at.Dev, at.Ino}, nil
}

// ReadAt, Object, Path, ID, IncRef and DecRef implement loader.File.
func (p *progFile) ReadAt(c wait.Context, b []byte, off int64) (int, error) {
	for n := 0; ; {
		q := mm.KernelIO(b[n:])
		m, err := p.f.ReadAt(c, &q, off+int64(n))
		if n += m; err != nil || m <= 0 || n == len(b) {
			return n, err
		}
	}
}
func (p *progFile) Object() *mm.Object    { return p.obj }
func (p *progFile) Path() string          { return p.name }
func (p *progFile) ID() (dev, ino uint64) { return p.dev, p.ino }
func (p *progFile) IncRef()               { p.f.IncRef() }
func (p *progFile) DecRef()               { p.f.DecRef() }

// setIDs says what a set-user-ID or set-group-ID program of attributes at runs as
// (execve(2)): nothing on a nosuid mount, under no_new_privs and for scripts.
func setIDs(c *vfs.Creds, f *vfs.File, at *vfs.Attr, script bool) (uid, gid uint32) {
	uid, gid = c.EUID, c.EGID
	if script || c.NoNewPrivs || f.Path.Valid() && f.Path.Mount.Flags()&unix.MS_NOSUID != 0 {
		return uid, gid
	}
	if at.Mode&unix.S_ISUID != 0 {
		uid = at.UID
	}
	// Without group execute permission the bit means mandatory locking.
	if at.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
		gid = at.GID
	}
	return uid, gid
}

// Securebits (uapi/linux/securebits.h).
const (
	secNoRoot         = 1 << 0
	secNoSetuidFixup  = 1 << 2
	secKeepCaps       = 1 << 4
	secNoAmbientRaise = 1 << 6
)

// execCreds are the credentials after execve (capabilities(7), "Transformation of
// capabilities during execve()"; file capabilities are not supported), and whether the
// program is to distrust its environment.
func execCreds(old *vfs.Creds, uid, gid uint32) (*vfs.Creds, bool) {
	c := *old
	c.EUID, c.EGID = uid, gid
	setid := uid != old.UID && uid != old.EUID || gid != old.GID && gid != old.EGID
	if uid != old.EUID || gid != old.EGID {
		c.Ambient = 0
	}
	c.Permitted, c.Effective = c.Ambient, c.Ambient
	if c.Securebits&secNoRoot == 0 {
		if c.UID == 0 || c.EUID == 0 {
			c.Permitted = c.Inheritable | c.Bounding
			c.Effective = 0
		}
		if c.EUID == 0 {
			c.Effective = c.Permitted
		}
	}
	c.SUID, c.FSUID = c.EUID, c.EUID
	c.SGID, c.FSGID = c.EGID, c.EGID
	c.KeepCaps = false
	c.Securebits &^= secKeepCaps
	secure := setid || c.UID != c.EUID || c.GID != c.EGID
	return &c, secure
}
