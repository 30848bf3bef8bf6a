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

// program loads and starts process 1.
func (s *System) program() error {
	c := wait.Background()
	fs := vfs.NewFSContext(s.ns)
	creds := vfs.RootCreds()
	if s.cfg.UID != 0 || s.cfg.GID != 0 {
		creds = userCreds(s.cfg.UID, s.cfg.GID)
	}
	l := vfs.Lookup{C: c, FS: fs, Creds: creds}
	if dir := path.Clean("/" + s.cfg.WorkDir); dir != "/" {
		p, err := s.ns.Walk(l, dir, vfs.WalkFollow|vfs.WalkDir)
		if err == nil {
			err = s.ns.Chdir(l, p)
		}
		if err != nil {
			return fmt.Errorf("the working directory %s: %w", dir, err)
		}
	}
	limits, err := rlimits(s.cfg.Limits)
	if err != nil {
		return err
	}
	img, err := syscalls.LoadProgram(syscalls.Program{
		C: c, Mem: s.mem, NS: s.ns, Lookup: l, Path: s.cfg.Program, Argv: s.argv(), Env: s.env(),
		Creds: creds, Limits: task.MemLimits(limits), VDSO: s.vdso,
	})
	if err != nil {
		return fmt.Errorf("%s cannot be started: %w", s.cfg.Program, err)
	}
	fds, err := s.stdio(c, limits)
	if err != nil {
		return err
	}
	_, err = s.kernel.Start(task.StartArgs{Image: img, FDs: fds, FS: fs, Creds: creds, Limits: limits})
	return err
}

func userCreds(uid, gid uint32) *vfs.Creds {
	return &vfs.Creds{
		UID: uid, EUID: uid, SUID: uid, FSUID: uid, GID: gid, EGID: gid, SGID: gid, FSGID: gid,
		Bounding: vfs.RootCreds().Bounding,
	}
}

func (s *System) argv() []string {
	if len(s.cfg.Args) > 0 {
		return s.cfg.Args
	}
	return []string{s.cfg.Program}
}

func (s *System) env() []string {
	env := append([]string(nil), s.cfg.Env...)
	for _, d := range defaultEnv {
		if !image.HasEnv(env, d.Key) {
			env = append(env, d.Key+"="+d.Value)
		}
	}
	return env
}

// stdio opens the console as descriptors 0 to 2.
func (s *System) stdio(c wait.Context, limits map[int]task.Rlimit) (*vfs.FDTable, error) {
	n := 1024
	if r, ok := limits[task.RlimitNofile]; ok {
		n = int(min(r.Cur, task.MaxNofile))
	}
	fds := vfs.NewFDTable(max(n, 3))
	f, err := s.ns.Open(rootfs.Kernel(c, s.ns), "/dev/console", unix.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/console: %w", err)
	}
	for range 3 {
		f.IncRef()
		if _, err := fds.Install(f, 0, false); err != nil {
			return nil, err
		}
	}
	f.DecRef()
	return fds, nil
}

// limitNames are the configuration's names of limits: Linux's without RLIMIT_.
var limitNames = map[string]int{
	"cpu": task.RlimitCPU, "fsize": unix.RLIMIT_FSIZE, "data": unix.RLIMIT_DATA, "stack": unix.RLIMIT_STACK,
	"core": unix.RLIMIT_CORE, "rss": task.RlimitRSS, "nproc": task.RlimitNproc, "nofile": task.RlimitNofile,
	"memlock": task.RlimitMemlock, "as": task.RlimitAS, "locks": task.RlimitLocks,
	"sigpending": task.RlimitSigpending, "msgqueue": task.RlimitMsgqueue, "nice": task.RlimitNice,
	"rtprio": task.RlimitRtprio, "rttime": task.RlimitRttime,
}

func rlimits(m map[string]image.Limit) (map[int]task.Rlimit, error) {
	out := map[int]task.Rlimit{}
	for name, l := range m {
		n, ok := limitNames[name]
		if !ok {
			return nil, fmt.Errorf("the configuration's limit %q is not one of Linux's", name)
		}
		// -1 is RLIM_INFINITY, all bits set, by conversion.
		out[n] = task.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)}
	}
	return out, nil
}
