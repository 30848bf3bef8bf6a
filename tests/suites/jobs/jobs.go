// Package jobs runs a list of programs one after the other on a machine, Kiln or Linux: the
// same root, the same process 1 (jobs/guest), one answer a job. The suites that are programs
// rather than an image of their own use it.
package jobs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"kiln/capstan/elfinfo"
	"kiln/capstan/erofs"
	"kiln/capstan/tree"
	"kiln/tests/linuxguest"
	"kiln/tests/linuxguest/spec"
	"kiln/tests/suites/jobs/job"
	"kiln/tests/vmtest"
)

// Runners are the runners by the names that commands know them by.
var Runners = map[string]Runner{"kiln": OnKiln, "host": OnHost, "linux": OnLinux}

// All runs the jobs, on one machine after another if need be: a job during which a machine
// ended is missing in the answer, and those behind it run on the next. log hears of it.
func All(ctx context.Context, on Runner, root func() (*tree.Tree, error), list []job.Job, log func(string)) (map[string]Said, error) {
	all := map[string]Said{}
	for len(list) > 0 {
		t, err := root()
		if err != nil {
			return all, err
		}
		said, err := on(ctx, t, list)
		maps.Copy(all, said)
		if err == nil || ctx.Err() != nil {
			return all, ctx.Err()
		}
		n := 0
		for n < len(list) && came(said, list[n].Name) {
			n++
		}
		if n == len(list) {
			return all, nil
		}
		log(fmt.Sprintf("the machine ended in %s: %v", list[n].Name, err))
		list = list[n+1:]
	}
	return all, nil
}

func came(said map[string]Said, name string) bool {
	_, ok := said[name]
	return ok
}

// Said is what a job printed and how it ended, as a shell has it (or job.Late).
type Said struct {
	Output string
	Status int
}

// A Runner runs jobs on a machine with a root: process 1 is tests/suites/jobs/guest. A job that
// does not come back is missing in the answer, and the error says why.
type Runner func(ctx context.Context, root *tree.Tree, list []job.Job) (map[string]Said, error)

const guestPath = "/guest"

// prepare adds process 1 and the jobs to a root.
func prepare(root *tree.Tree, list []job.Job) error {
	bin, err := build("./tests/suites/jobs/guest", "suite-guest")
	if err != nil {
		return err
	}
	n, err := tree.HostFile(bin)
	if err != nil {
		return err
	}
	if err := root.Add(guestPath, n); err != nil {
		return err
	}
	j, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return root.Add(job.File, tree.File(0o644, j))
}

var building sync.Mutex

// build compiles a command of this module into build/programs.
func build(pkg, name string) (string, error) {
	top, err := vmtest.Root()
	if err != nil {
		return "", err
	}
	building.Lock()
	defer building.Unlock()
	out := filepath.Join(top, "build", "programs", name)
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, msg)
	}
	return out, nil
}

// OnKiln runs the jobs on the real kernel as a process (tests/suites/jobs/machine).
func OnKiln(ctx context.Context, root *tree.Tree, list []job.Job) (map[string]Said, error) {
	if err := prepare(root, list); err != nil {
		return nil, err
	}
	bin, err := build("./tests/suites/jobs/machine", "suite-machine")
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "suite-*.erofs")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	l, err := erofs.Plan(root, erofs.None)
	if err != nil {
		return nil, err
	}
	if _, err := l.WriteTo(f); err != nil {
		return nil, err
	}
	args := []string{"-m", Memory, f.Name(), guestPath}
	if os.Getenv("KILN_STRACE") != "" {
		args = append([]string{"-strace"}, args...)
	}
	return finish(exec.CommandContext(ctx, bin, args...))
}

// Memory is that of a machine, in MB.
const Memory = "4096"

// OnHost runs the jobs on this host's own kernel, in namespaces of their own, with the same
// files as root. It needs root.
func OnHost(ctx context.Context, root *tree.Tree, list []job.Job) (map[string]Said, error) {
	if err := prepare(root, list); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "suite")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := Unpack(root, dir); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, guestPath), "-in", dir)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	return finish(cmd)
}

// OnLinux runs the jobs on Debian's kernel in QEMU.
func OnLinux(ctx context.Context, root *tree.Tree, list []job.Job) (map[string]Said, error) {
	if err := prepare(root, list); err != nil {
		return nil, err
	}
	k, err := linuxguest.Get(ctx)
	if err != nil {
		return nil, err
	}
	g := &linuxguest.Guest{
		Kernel: k, Root: root,
		Spec: spec.Spec{Path: guestPath, Dir: "/", Args: []string{guestPath}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}},
		Args: []string{"-machine", "q35", "-cpu", "max,la57=off", "-smp", "2", "-m", Memory, "-accel", "tcg", "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none"},
	}
	dir, err := os.MkdirTemp("", "suite")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	args, err := g.QEMU(dir)
	if err != nil {
		return nil, err
	}
	return finish(exec.CommandContext(ctx, "qemu-system-x86_64", args...))
}

func finish(cmd *exec.Cmd) (map[string]Said, error) {
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if name := os.Getenv("KILN_SUITE_LOG"); name != "" { // for whoever wants to look on
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, f), io.MultiWriter(&log, f)
	}
	err := cmd.Run()
	text := strings.ReplaceAll(out.String(), "\r\n", "\n")
	said := parse(text)
	if err == nil && !strings.Contains(text, "@@ over") {
		err = fmt.Errorf("the machine ended early")
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s\n%s", err, tail(text), tail(log.String()))
	}
	return said, err
}

// parse takes the console apart: what each job said.
func parse(console string) map[string]Said {
	said := map[string]Said{}
	for line := range strings.Lines(console) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "@@" || f[1] != "end" {
			continue
		}
		status, err := strconv.Atoi(f[3])
		if err != nil {
			continue
		}
		var out []byte
		if len(f) > 4 {
			if out, err = base64.StdEncoding.DecodeString(f[4]); err != nil {
				continue
			}
		}
		said[f[2]] = Said{string(out), status}
	}
	return said
}

func tail(s string) string { return s[max(0, len(s)-6000):] }

// Unpack writes a tree into a folder of this host.
func Unpack(t *tree.Tree, dir string) error {
	return t.Walk(func(name string, n *tree.Node) error {
		p := filepath.Join(dir, name)
		switch n.Mode.Type() {
		case fs.ModeDir:
			if err := os.MkdirAll(p, 0o755); err != nil {
				return err
			}
		case fs.ModeSymlink:
			return os.Symlink(n.Link, p)
		case 0:
			b, err := n.ReadAll()
			if err != nil {
				return err
			}
			if err := os.WriteFile(p, b, 0o644); err != nil {
				return err
			}
		}
		return os.Chmod(p, n.Mode)
	})
}

// Root is a tree with the folders that every machine has, an /etc with accounts and the
// name service's files, and Debian's programs from this host (paths), with their libraries.
func Root(programs ...string) (*tree.Tree, error) {
	root := tree.New()
	host := tree.HostSource{Dir: "/"}
	for _, d := range []string{"/dev", "/proc", "/sys", "/root", "/etc", "/run", "/var/tmp", "/usr/bin", "/usr/sbin", "/usr/lib", "/home", "/mnt"} {
		if err := root.Add(d, tree.Dir(0o755)); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} { // as Debian has them
		if err := root.Add("/"+d, tree.Symlink("usr/"+d)); err != nil {
			return nil, err
		}
	}
	if err := root.Add("/tmp", tree.Dir(0o777|fs.ModeSticky)); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"/etc/group":         "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n",
		"/etc/hosts":         "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tkiln\n",
		"/etc/hostname":      "kiln\n",
		"/etc/resolv.conf":   "nameserver 127.0.0.1\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
	} {
		if err := root.Add(name, tree.File(0o644, []byte(text))); err != nil {
			return nil, err
		}
	}
	if err := root.Add("/etc/mtab", tree.Symlink("../proc/self/mounts")); err != nil {
		return nil, err
	}
	for _, name := range []string{"/etc/services", "/etc/protocols", "/etc/mime.types"} {
		if _, err := os.Stat(name); err == nil {
			if err := root.CopyPath(host, name); err != nil {
				return nil, err
			}
		}
	}
	closure := elfinfo.NewClosure(host)
	for _, name := range programs {
		if err := root.CopyPath(host, name); err != nil {
			return nil, err
		}
		if err := closure.Add(name); err != nil {
			return nil, err
		}
	}
	for _, l := range closure.Libraries() {
		for _, p := range []string{l.Path, l.Real} {
			if err := root.CopyPath(host, p); err != nil {
				return nil, err
			}
		}
	}
	return root, nil
}
