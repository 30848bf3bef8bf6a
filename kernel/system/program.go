package system

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"kiln/fs/rootfs"
	"kiln/fs/vfs"
	"kiln/kernel/image"
	"kiln/kernel/task"
	"kiln/kernel/wait"
	"kiln/syscalls"
)

// defaultEnv is what a program gets that the configuration does not set.
var defaultEnv = []image.EnvVar{
	{Key: "PATH", Value: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	{Key: "HOME", Value: "/root"},
	{Key: "TERM", Value: "linux"},
}

// program loads and starts the image's one program as process 1.
func (s *System) program() error {
	a, err := s.load(image.Exec{Program: s.cfg.Program, Args: s.cfg.Args})
	if err != nil {
		return err
	}
	if a.FDs, err = s.stdio(a.Limits, stdio{}); err != nil {
		return err
	}
	a.TTY = s.tty
	_, err = s.kernel.Start(a)
	return err
}

// load makes a process ready but for its descriptors. What e leaves out is the
// configuration's.
func (s *System) load(e image.Exec) (a task.StartArgs, err error) {
	c := wait.Background()
	a.FS = vfs.NewFSContext(s.ns)
	a.Creds = s.creds(e.User)
	l := vfs.Lookup{C: c, FS: a.FS, Creds: a.Creds}
	dir := e.WorkDir
	if dir == "" {
		dir = s.cfg.WorkDir
	}
	if dir = path.Clean("/" + dir); dir != "/" {
		p, err := s.ns.Walk(l, dir, vfs.WalkFollow|vfs.WalkDir)
		if err == nil {
			err = s.ns.Chdir(l, p)
		}
		if err != nil {
			return a, fmt.Errorf("the working directory %s: %w", dir, err)
		}
	}
	if a.Limits, err = rlimits(s.cfg.Limits, e.Limits); err != nil {
		return a, err
	}
	argv := e.Args
	if len(argv) == 0 {
		argv = []string{e.Program}
	}
	a.Image, err = syscalls.LoadProgram(&syscalls.Program{
		C: c, Mem: s.mem, NS: s.ns, Lookup: l, Path: e.Program, Argv: argv, Env: s.env(e.Env),
		Creds: a.Creds, Limits: task.MemLimits(a.Limits), VDSO: s.vdso,
	})
	if err != nil {
		return a, fmt.Errorf("%s cannot be started: %w", e.Program, err)
	}
	return a, nil
}

// unload undoes load.
func unload(a *task.StartArgs) {
	a.Image.Space.DecUsers()
	if a.Image.Exe != nil {
		a.Image.Exe.DecRef()
	}
	if a.FDs != nil {
		a.FDs.DecRef()
	}
	a.FS.DecRef()
}

// creds are those of a program that u names, or else the configuration.
func (s *System) creds(u *image.User) *vfs.Creds {
	uid, gid := s.cfg.UID, s.cfg.GID
	if u != nil {
		uid, gid = u.UID, u.GID
	}
	c := vfs.RootCreds()
	c.UID, c.EUID, c.SUID, c.FSUID = uid, uid, uid, uid
	c.GID, c.EGID, c.SGID, c.FSGID = gid, gid, gid, gid
	if uid != 0 { // the group has no say in capabilities
		c.Permitted, c.Effective = 0, 0
	}
	return c
}

// env is own, the configuration's and the default environment, in this order of weight.
func (s *System) env(own []string) []string {
	env := own[:len(own):len(own)]
	for _, e := range s.cfg.Env {
		if len(own) == 0 || !image.HasEnv(own, image.EnvKey(e)) {
			env = append(env, e)
		}
	}
	for _, d := range defaultEnv {
		if !image.HasEnv(env, d.Key) {
			env = append(env, d.Key+"="+d.Value)
		}
	}
	return env
}

// stdio says what the descriptors 0 to 2 are; nil is the console.
type stdio struct{ in, out, err *vfs.File }

// stdio opens descriptors 0 to 2. It takes references of its own.
func (s *System) stdio(limits map[int]task.Rlimit, io stdio) (*vfs.FDTable, error) {
	n := 1024
	if r, ok := limits[task.RlimitNofile]; ok {
		n = int(min(r.Cur, task.MaxNofile))
	}
	fds := vfs.NewFDTable(max(n, 3))
	f, err := s.open("/dev/console")
	if err != nil {
		return nil, err
	}
	defer f.DecRef()
	for _, want := range []*vfs.File{io.in, io.out, io.err} {
		if want == nil {
			want = f
		}
		want.IncRef()
		if _, err := fds.Install(want, 0, false); err != nil {
			return nil, err
		}
	}
	return fds, nil
}

func (s *System) open(name string) (*vfs.File, error) {
	f, err := s.ns.Open(rootfs.Kernel(wait.Background(), s.ns), name, unix.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// limitNames are the configuration's names of limits: Linux's without RLIMIT_.
var limitNames = map[string]int{
	"cpu": task.RlimitCPU, "fsize": unix.RLIMIT_FSIZE, "data": unix.RLIMIT_DATA, "stack": unix.RLIMIT_STACK,
	"core": unix.RLIMIT_CORE, "rss": task.RlimitRSS, "nproc": task.RlimitNproc, "nofile": task.RlimitNofile,
	"memlock": task.RlimitMemlock, "as": task.RlimitAS, "locks": task.RlimitLocks,
	"sigpending": task.RlimitSigpending, "msgqueue": task.RlimitMsgqueue, "nice": task.RlimitNice,
	"rtprio": task.RlimitRtprio, "rttime": task.RlimitRttime,
}

// rlimits puts maps of limits together; the later ones replace.
func rlimits(maps ...map[string]image.Limit) (map[int]task.Rlimit, error) {
	out := map[int]task.Rlimit{}
	for _, m := range maps {
		for name, l := range m {
			n, ok := limitNames[name]
			if !ok {
				return nil, fmt.Errorf("the configuration's limit %q is not one of Linux's", name)
			}
			// -1 is RLIM_INFINITY, all bits set, by conversion.
			out[n] = task.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)}
		}
	}
	return out, nil
}
