package syscalls

import (
	"strings"

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
	// Creds are those of the new program; nil: Lookup's. With Exec they are the
	// result: what the file's mode and capabilities make of Lookup's (execCreds).
	Creds *vfs.Creds
	Exec  bool
	// Watched says that another process shares the caller's working directory, or traces it
	// without privilege (LSM_UNSAFE_SHARE, _PTRACE): the program gains nothing.
	Watched bool
	// Secure (AT_SECURE), NoDump (the caller may not read the program) and Gained (it has
	// set-id bits or more capabilities: personality flags go) are results.
	Secure, NoDump, Gained bool
	// NoRandom is ADDR_NO_RANDOMIZE, Unreachable a Path that the new program cannot
	// open (loader.Request), ByFile that comm is the file's name, not Path's.
	NoRandom, Unreachable, ByFile bool
	Limits                        mm.Limits
	VDSO                          *vdso.VDSO
}

// LoadProgram makes a program ready to run: for execve and for process 1
// (task.StartArgs.Image). The image's space has one user and its Exe one reference,
// both the caller's. Errors are loader.Load's.
func LoadProgram(p *Program) (task.Image, error) {
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
			if !p.readable(f) {
				p.NoDump = true
			}
			return p.file(f)
		},
		Filename: p.Path, Argv: p.Argv, Env: p.Env,
		UID: c.UID, EUID: c.EUID, GID: c.GID, EGID: c.EGID, Secure: p.Secure,
		NoRandom: p.NoRandom, Unreachable: p.Unreachable, Limits: p.Limits, VDSO: p.VDSO,
	}
	if p.Exec {
		r.Settle = p.settle
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
	exe, name := img.Exe.(*progFile), p.Path
	if p.ByFile {
		name = strings.TrimSuffix(exe.name, " (deleted)")
	}
	return task.Image{
		Space: img.Space, Entry: img.Entry, SP: img.SP, Exe: exe.f, Name: name,
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
	root := p.NS.Root()
	if p.Lookup.FS != nil {
		root = p.Lookup.FS.Root()
	}
	return &progFile{f, obj, p.NS.FileName(f, root), at.Dev, at.Ino}, nil
}

// ReadAt, Object, Path, Mapped, ID, IncRef and DecRef implement loader.File.
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
func (p *progFile) Mapped() mm.Counted    { return p.f }
func (p *progFile) ID() (dev, ino uint64) { return p.dev, p.ino }
func (p *progFile) IncRef()               { p.f.IncRef() }
func (p *progFile) DecRef()               { p.f.DecRef() }
