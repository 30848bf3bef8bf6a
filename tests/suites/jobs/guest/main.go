// Command guest is process 1 of a machine, Linux or Kiln, on which a suite runs: it runs
// the jobs of job.File one after the other and prints what each says between markers.
//
//	guest              the jobs of this root
//	guest -in DIR      the jobs of the root in DIR, of which it makes a machine first: it
//	                   must be process 1 of namespaces of its own (jobs.OnHost)
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kiln/tests/suites/jobs/job"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guest:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 3 && os.Args[1] == "-in" {
		if err := enter(os.Args[2]); err != nil {
			return err
		}
	}
	b, err := os.ReadFile(job.File)
	if err != nil {
		return err
	}
	var jobs []job.Job
	if err := json.Unmarshal(b, &jobs); err != nil {
		return err
	}
	// A login's limit, which is not what either kernel starts process 1 with.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1024, Max: 4096}); err != nil {
		return err
	}
	for _, j := range jobs {
		clean()
		fmt.Printf("\n@@ start %s\n", j.Name)
		out, status := do(j)
		fmt.Printf("\n@@ end %s %d %s\n", j.Name, status, base64.StdEncoding.EncodeToString(out))
	}
	fmt.Println("@@ over")
	return nil
}

// clean ends what a job has left: its processes, which are process 1's children by now or
// will be, and its files.
func clean() {
	for range 100 {
		if unix.Kill(-1, unix.SIGKILL) != nil {
			break
		}
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range []string{"/tmp/*", "/tmp/.[a-z]*", "/dev/shm/*"} {
		old, _ := filepath.Glob(p)
		for _, f := range old {
			os.RemoveAll(f)
		}
	}
	os.Chmod("/tmp", 0o1777|os.ModeSticky)
}

func do(j job.Job) ([]byte, int) {
	var out bytes.Buffer
	cmd := exec.Command(j.Path)
	cmd.Args, cmd.Env, cmd.Dir = append([]string{j.Path}, j.Args...), j.Env, j.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if master, slave, err := terminal(); err != nil {
		fmt.Println("guest: no terminal:", err)
	} else {
		defer master.Close()
		defer slave.Close()
		go io.Copy(io.Discard, master)
		cmd.Stdin, cmd.SysProcAttr.Setctty = slave, true
	}
	if j.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: j.UID, Gid: j.UID}
	}
	cmd.WaitDelay = 5 * time.Second // its children may hold the pipe
	if err := cmd.Start(); err != nil {
		return []byte(err.Error()), 127
	}
	limit := j.Limit
	if limit == 0 {
		limit = 2 * time.Minute
	}
	quit := time.AfterFunc(limit, func() { cmd.Process.Signal(unix.SIGQUIT) })
	kill := time.AfterFunc(limit+5*time.Second, func() { unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	cmd.Wait()
	over := !quit.Stop()
	kill.Stop()
	unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	if over {
		return out.Bytes(), job.Late
	}
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return out.Bytes(), 128 + int(ws.Signal())
	}
	return out.Bytes(), ws.ExitStatus()
}

// enter makes the root in dir a machine as Kiln's kernel does: devices, proc, sys,
// temporary folders and the loopback interface.
func enter(dir string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("not process 1")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s: %w", dir, err)
	}
	for _, m := range []struct{ dst, typ, data string }{
		{"proc", "proc", ""}, {"sys", "sysfs", ""}, {"dev", "tmpfs", "mode=755"}, {"tmp", "tmpfs", "mode=1777"}, {"run", "tmpfs", "mode=755"},
	} {
		os.MkdirAll(filepath.Join(dir, m.dst), 0o755)
		if err := unix.Mount(m.typ, filepath.Join(dir, m.dst), m.typ, 0, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dst, err)
		}
	}
	unix.Umask(0)
	for name, minor := range map[string]int{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod(filepath.Join(dir, "dev", name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, uint32(minor)))); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
	}
	if err := unix.Mknod(filepath.Join(dir, "dev", "tty"), unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))); err != nil {
		return fmt.Errorf("making /dev/tty: %w", err)
	}
	unix.Umask(0o22)
	for _, m := range []struct{ dst, typ, data string }{{"dev/shm", "tmpfs", "mode=1777"}, {"dev/pts", "devpts", "newinstance,ptmxmode=666"}, {"dev/mqueue", "mqueue", ""}} {
		os.MkdirAll(filepath.Join(dir, m.dst), 0o755)
		if err := unix.Mount(m.typ, filepath.Join(dir, m.dst), m.typ, 0, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dst, err)
		}
	}
	for name, to := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		os.Symlink(to, filepath.Join(dir, "dev", name))
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := unix.Sethostname([]byte("kiln")); err != nil {
		return err
	}
	// Not chroot, in which Linux makes no user namespaces.
	old := filepath.Join(dir, "mnt")
	if err := os.MkdirAll(old, 0o755); err != nil {
		return err
	}
	if err := unix.PivotRoot(dir, old); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Unmount("/mnt", unix.MNT_DETACH)
}

// terminal is a pair of which a job gets the one side as its controlling terminal.
func terminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
