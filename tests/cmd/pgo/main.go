// Pgo records the profile that the Go compiler optimises the kernel with
// (cmd/kernel/default.pgo; see go.dev/doc/pgo): it boots servers on a kernel with
// symbols and loads each over TAP, and the benchmarks of processes and operations, which load themselves. It
// stops the virtual CPU at random times through QEMU's gdb stub and unwinds the kernel's
// stack by the frame information that the linker wrote. Samples of ring 3 are dropped. Run it again when the hot paths have changed:
//
//	go run ./tests/cmd/pgo        (`make pgo`)
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"kiln/tests/tapnet"
	"kiln/tests/vmtest"
)

// load is one program and what keeps it busy: commands repeated until the samples
// are taken, or its own arguments if it needs nobody.
type load struct {
	app     string
	port    int
	cmd     []string
	args    []string
	samples int // of the kernel
}

const manySamples = 5000

var loads = []load{
	{app: "nginx", port: 80, cmd: []string{"ab", "-q", "-k", "-c", "32", "-n", "100000", "http://" + tapnet.GuestIP + "/"}, samples: manySamples},
	{app: "go-http", port: 8080, cmd: []string{"ab", "-q", "-k", "-c", "32", "-n", "100000", "http://" + tapnet.GuestIP + ":8080/"}, samples: manySamples},
	{app: "redis", port: 6379, cmd: []string{"redis-benchmark", "-h", tapnet.GuestIP, "-q", "-c", "50", "-n", "100000", "-t", "set,get,incr,lpush"}, samples: manySamples},
	{app: "nginx", port: 80, cmd: []string{"ab", "-q", "-c", "32", "-n", "100000", "http://" + tapnet.GuestIP + "/"}, samples: manySamples},
	processes("fork_exit_wait", 2000),
	processes("vfork_exec_wait", 3000),
	processes("pipe_round_trip", 2000),
	processes("futex_switch", 1000),
	processes("cow_fault", 500),
	operation("tmpfs_write1"), operation("tmpfs_read1"), operation("pipe_write1"), operation("open_close"), operation("stat6"),
	operation("epoll_wait"), operation("futex_wake"), operation("signal"), operation("mmap_touch_munmap"),
	operation("thread_create_join"), operation("timer_set_fire"), operation("unix_ping_pong"), operation("tcp_ping_pong"),
}

// processes is a measure of tests/bench/procs.c, run until the samples are taken,
// operation one of ops.c.
func processes(measure string, samples int) load {
	return load{app: "procs", args: []string{measure, "1000000000"}, samples: samples}
}

func operation(measure string) load {
	return load{app: "ops", args: []string{measure, "1000000000"}, samples: 500}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "pgo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	root, err := vmtest.Root()
	if err != nil {
		return err
	}
	pack, err := vmtest.Pack()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kilnpgo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	elf, kernel := filepath.Join(dir, "kernel.symbols"), filepath.Join(dir, "kernel.elf")
	if err := buildKernel(ctx, root, elf, kernel); err != nil {
		return err
	}
	sym, err := newSymbols(elf)
	if err != nil {
		return err
	}
	p := newProfile()
	for _, name := range []string{"procs", "ops"} {
		gcc := exec.CommandContext(ctx, "gcc", "-static", "-O2", "-pthread", "-o", filepath.Join(dir, name), filepath.Join(root, "tests", "bench", name+".c"))
		if out, err := gcc.CombinedOutput(); err != nil {
			return fmt.Errorf("gcc: %v: %s", err, out)
		}
	}
	for _, l := range loads {
		fmt.Printf("%s: %s\n", l.app, strings.Join(append(l.cmd, l.args...), " "))
		img, what := filepath.Join(dir, l.app+".img"), l.app
		if len(l.args) > 0 {
			what = filepath.Join(dir, l.app)
		}
		bake := exec.CommandContext(ctx, pack, "build", "-q", what, "-o", img)
		bake.Env = append(os.Environ(), "KILN_KERNEL="+kernel)
		if out, err := bake.CombinedOutput(); err != nil {
			return fmt.Errorf("pack build %s: %v: %s", l.app, err, out)
		}
		if err := sampleLoad(ctx, pack, img, filepath.Join(dir, "gdb"), l, func(s sample) { p.add(sym, s) }); err != nil {
			return fmt.Errorf("%s: %w", l.app, err)
		}
	}
	return p.write(filepath.Join(root, "cmd", "kernel", "default.pgo"))
}

// buildKernel is the Makefile's kernel with symbols and DWARF.
func buildKernel(ctx context.Context, root, elf, kernel string) error {
	make := exec.CommandContext(ctx, "make", "-C", root, "kernel-symbols", "SYMBOLS="+elf)
	if out, err := make.CombinedOutput(); err != nil {
		return fmt.Errorf("make kernel-symbols: %v: %s", err, out)
	}
	link := exec.CommandContext(ctx, "go", "run", "./cmd/mkkernel", elf, kernel)
	link.Dir = root
	if out, err := link.CombinedOutput(); err != nil {
		return fmt.Errorf("mkkernel: %v: %s", err, out)
	}
	return nil
}

// sampleLoad boots the image, keeps it busy and hands samples of its kernel over.
func sampleLoad(ctx context.Context, pack, img, socket string, l load, each func(sample)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	n, err := tapnet.New()
	if err != nil {
		return err
	}
	defer n.Close()
	run := []string{"run", "--quiet", img, "--accel", "tcg", "--vmm", "q35", "-m", "256M",
		"--net", "tap:" + n.Tap, "--append", tapnet.IPArg,
		"--qemu-arg", "-chardev", "--qemu-arg", "socket,id=gdb,server=on,wait=off,path=" + socket,
		"--qemu-arg", "-gdb", "--qemu-arg", "chardev:gdb"}
	if len(l.args) > 0 {
		run = append(append(run, "--"), l.args...)
	}
	vm := n.Command(pack, run...)
	var console strings.Builder
	vm.Stdout, vm.Stderr = &console, &console
	if err := vm.Start(); err != nil {
		return err
	}
	defer func() {
		vm.Process.Signal(syscall.SIGTERM)
		vm.Wait()
		os.Remove(socket)
	}()
	if len(l.cmd) == 0 {
		time.Sleep(5 * time.Second) // it boots
	} else {
		stop, err := keepBusy(ctx, n, &l)
		if err != nil {
			return fmt.Errorf("%w; console: %.600s", err, console.String())
		}
		defer stop()
	}
	g, err := dialGDB(socket)
	if err != nil {
		return err
	}
	defer g.close()
	return g.run(ctx, l.samples, each)
}

// keepBusy waits for the server and loads it until stop is called.
func keepBusy(ctx context.Context, n *tapnet.Net, l *load) (stop func(), err error) {
	up := fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", tapnet.GuestIP, l.port)
	for n.Command("bash", "-c", up).Run() != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no answer")
		}
		time.Sleep(100 * time.Millisecond)
	}
	busy, done := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for busy.Err() == nil {
			c := n.Command(l.cmd[0], l.cmd[1:]...)
			if c.Start() != nil {
				return
			}
			kill := context.AfterFunc(busy, func() { c.Process.Kill() })
			c.Wait()
			kill()
		}
	}()
	return func() { done(); <-ended }, nil
}
