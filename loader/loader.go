// Package loader turns a file into a program that can run: a new address space with
// its segments, its interpreter, the vDSO and an initial stack as Linux lays it out.
//
//	img, err := loader.Load(c, mem, loader.Request{
//		Open: open, Filename: "/usr/sbin/nginx", Argv: argv, Env: env, …})
//	regs.RIP, regs.RSP = uint64(img.Entry), uint64(img.SP)
//
// It takes ELF64 for x86-64 (fixed, PIE and static PIE, with or without PT_INTERP) and
// #! scripts. Nothing of the caller changes until Load has succeeded: the old address
// space is the caller's to drop. Errors are Linux's errnos; those that on Linux come
// after the old program is gone, where a process can only be killed, are *LateError.
//
// The file is hostile: every number in it is checked before it is used, and nothing is
// allocated by a size that it names beyond a page table's worth (64 KB of headers, 4 KB
// of interpreter name).
package loader

import (
	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
	"kiln/loader/vdso"
)

// File is an open program: a regular file whose execute permission has been checked.
type File interface {
	// ReadAt reads into kernel memory; short only at the end of the file.
	ReadAt(c wait.Context, b []byte, off int64) (int, error)
	// Object is the page cache to map, nil where the file cannot be mapped.
	Object() *mm.Object
	// Path is the name it has now; Mapped is what its mappings keep, to ask for the name then.
	Path() string
	Mapped() mm.Counted
	// ID is the device and inode number.
	ID() (dev, ino uint64)
	// IncRef and DecRef pin the open file.
	IncRef()
	DecRef()
}

// Request says what to load and for whom.
type Request struct {
	// Open opens a program by path for the caller: ENOENT, EACCES (not executable,
	// not regular, noexec), … The file has one reference, which Load takes over.
	Open func(path string) (File, error)
	// File, if set, is the program itself (execveat with AT_EMPTY_PATH); it stays
	// the caller's. Otherwise Filename is opened.
	File File
	// Filename is what execve was given: AT_EXECFN, and a script's own name.
	Filename string
	Argv     []string
	Env      []string

	UID, EUID, GID, EGID uint32
	Secure               bool // AT_SECURE
	// NoRandom is the personality ADDR_NO_RANDOMIZE.
	NoRandom bool
	// Unreachable says that Filename will be gone after exec (a close-on-exec
	// descriptor's /dev/fd name): scripts are ENOENT.
	Unreachable bool
	// Settle, if set, is called with the ELF file before it is loaded, and fills in who
	// the program runs as (the fields above): set-user-ID bits are the last file's.
	Settle func(r *Request, f File) error
	// Limits are the new program's; Limits.Stack also places the mmap area and
	// bounds the arguments.
	Limits   mm.Limits
	Features *hal.Features
	// Random fills b; nil: the machine's entropy.
	Random func(b []byte)
	// VDSO, if set, is mapped for the program.
	VDSO *vdso.VDSO
}

// Range is [Start, End) in the program's memory.
type Range struct{ Start, End hal.UserAddr }

// Image is a loaded program.
type Image struct {
	Space *mm.Space // one user, the caller
	Entry hal.UserAddr
	SP    hal.UserAddr
	// Exe is the ELF file (a script's interpreter), referenced for the caller.
	Exe File
	// Interp is the name in PT_INTERP, "" if there is none, and InterpBase where
	// it was loaded.
	Interp     string
	InterpBase hal.UserAddr
	// Base is what was added to the addresses in the file.
	Base hal.UserAddr
	// Auxv is the auxiliary vector as /proc/self/auxv shows it.
	Auxv                 []byte
	Args, Envs           Range // the strings, for /proc/self/cmdline and environ
	Code, Data           Range
	BrkStart, StackStart hal.UserAddr
	ExecStack            bool
	// VDSO is where the vDSO's ELF header lies, 0 if there is none.
	VDSO hal.UserAddr
}

// LateError is an error that Linux meets after it has destroyed the old program: the
// process dies of SIGSEGV instead of seeing it.
type LateError struct{ Errno error }

func (e *LateError) Error() string { return "exec failed late: " + e.Errno.Error() }

// Unwrap gives the errno.
func (e *LateError) Unwrap() error { return e.Errno }

// Limits of execve (linux/binfmts.h, execve(2)).
const (
	headLen   = 256       // BINPRM_BUF_SIZE: what the format is told by
	maxDepth  = 5         // rewrites by #! before ELOOP
	maxString = 32 * 4096 // MAX_ARG_STRLEN, with the NUL
	argFloor  = 128 << 10 // ARG_MAX: always granted
	argCeil   = 6 << 20   // three quarters of the default stack limit
	pathMax   = unix.PathMax
)

// Load loads the program that r names. Errors: what Open gives; ENOEXEC (no known
// format, bad headers); ELOOP (too many scripts); ENOENT (no interpreter); ELIBBAD (the
// interpreter is no ELF); EIO (truncated interpreter name); E2BIG (arguments); ENOMEM;
// a *LateError for what is wrong with segments. See execve(2).
func Load(c wait.Context, mem *mm.Memory, r Request) (*Image, error) {
	if r.Random == nil {
		r.Random = mem.M.Entropy
	}
	if r.Features == nil {
		r.Features = mem.M.Features()
	}
	if r.Limits == (mm.Limits{}) {
		r.Limits = mm.Limits{AS: ^uint64(0), Data: ^uint64(0), Stack: 8 << 20, MemLock: 8 << 20}
	}
	a, err := newArgs(&r)
	if err != nil {
		return nil, err
	}
	f := r.File
	if f != nil {
		f.IncRef()
	} else if f, err = r.Open(r.Filename); err != nil {
		return nil, err
	}
	for depth := 0; ; depth++ {
		if depth > maxDepth {
			f.DecRef()
			return nil, unix.ELOOP
		}
		var head [headLen]byte
		if _, err := f.ReadAt(c, head[:], 0); err != nil {
			f.DecRef()
			return nil, err
		}
		if head[0] != '#' || head[1] != '!' {
			if r.Settle != nil {
				if err := r.Settle(&r, f); err != nil {
					f.DecRef()
					return nil, err
				}
			}
			img, err := loadELF(c, mem, &r, a, f, head[:])
			if err != nil {
				f.DecRef()
			}
			return img, err
		}
		next, err := a.script(&r, head[:])
		f.DecRef()
		if err != nil {
			return nil, err
		}
		f = next
	}
}
