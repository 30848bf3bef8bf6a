package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// cpus measures machines with several CPUs: what one costs that has nothing to do, and
// what two CPUs are worth to a sum. QEMU runs a thread a vCPU (thread=multi).
func (b *bench) cpus() []row { return append(b.idle(), b.speedUp()) }

// several is machine without icount, with n CPUs.
func several(n int) []string {
	a := machine("microvm", false)
	for i := range a {
		if a[i] == "tcg" {
			a[i] = "tcg,thread=multi"
		}
	}
	return append(a, "-smp", strconv.Itoa(n))
}

// compile makes a static program of a C source, relative to tests/.
func (b *bench) compile(src string) (string, error) {
	out := filepath.Join(b.dir, strings.TrimSuffix(filepath.Base(src), ".c"))
	msg, err := exec.Command("gcc", "-static", "-O2", "-pthread", "-o", out, filepath.Join(b.root, "tests", src)).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("gcc %s: %v\n%s", src, err, msg)
	}
	return out, nil
}

const idleSpan = 20 * time.Second

// Vectors of the timers: the base's (kernel/metal) and Linux's LOCAL_TIMER_VECTOR.
const kilnTimer, linuxTimer = "0xef", "0xec"

func (b *bench) idle() []row {
	cpu := row{measure: "idle, 4 vCPUs: QEMU's CPU time in 20 s, of one CPU", limit: 2, unit: "%"}
	ticks := row{measure: "idle, 4 vCPUs: timer interrupts a second", limit: 10, unit: "/s"}
	fail := func(err error) []row {
		cpu.err, ticks.err = err, err
		return []row{cpu, ticks}
	}
	prog, err := b.compile("bench/idle.c")
	if err != nil {
		return fail(err)
	}
	img, err := b.bake(prog, "idle")
	if err != nil {
		return fail(err)
	}
	if cpu.kiln, ticks.kiln, err = b.idles(append(several(4), "-kernel", img), kilnTimer); err != nil {
		return fail(fmt.Errorf("kiln: %w", err))
	}
	args, err := b.linuxGuest(prog, several(4)).QEMU(b.dir)
	if err != nil {
		return fail(err)
	}
	// Linux may hang at its start on a loaded host (firstOutput): it only informs.
	cpu.linux, ticks.linux, _ = b.idles(args, linuxTimer)
	return []row{cpu, ticks}
}

// idles gives QEMU's CPU time in percent of one CPU and the timer interrupts a second, from
// two seconds after the program said that it idles.
func (b *bench) idles(args []string, vector string) (percent, perSecond float64, err error) {
	log := filepath.Join(b.dir, "idle.log")
	os.Remove(log)
	ctx, cancel := context.WithTimeout(b.ctx, idleSpan+40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, "-d", "int", "-D", log)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	ready := false
	for sc := bufio.NewScanner(out); !ready && sc.Scan(); {
		ready = strings.Contains(sc.Text(), "idle now")
	}
	if !ready {
		return 0, 0, fmt.Errorf("the program did not start")
	}
	time.Sleep(2 * time.Second)
	t0, n0, err := usage(cmd.Process.Pid, log, vector)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	time.Sleep(idleSpan)
	t1, n1, err := usage(cmd.Process.Pid, log, vector)
	secs := time.Since(start).Seconds()
	return 100 * (t1 - t0) / secs, (n1 - n0) / secs, err
}

// usage is a process's CPU time so far, in seconds, and how often QEMU has logged the
// delivery of a vector.
func usage(pid int, log, vector string) (secs, count float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	for _, v := range f[11:13] { // utime, stime in ticks of 10 ms
		n, _ := strconv.ParseFloat(v, 64)
		secs += n / 100
	}
	text, err := os.ReadFile(log)
	if os.IsNotExist(err) {
		return secs, 0, nil
	}
	return secs, float64(strings.Count(string(text), "hardware INT="+vector)), err
}

var reTook = regexp.MustCompile(`took (\d+) us`)

// speedUp is the time of a sum by one thread over that by two, on two vCPUs: medians of
// five interleaved runs. Beside them stands what the host's own processors make of the same
// program, which is the most that a guest can.
func (b *bench) speedUp() row {
	r := row{measure: "2 vCPUs: a sum by 2 threads, times faster than by 1", limit: 1.6, atLeast: true, unit: "x"}
	prog, err := b.compile("boot/testdata/parsum.c")
	if r.err = err; err != nil {
		return r
	}
	img, err := b.bake(prog, "parsum")
	if r.err = err; err != nil {
		return r
	}
	kiln := func(threads string) ([]string, error) {
		return append(several(2), "-kernel", img, "-append", "quiet -- "+threads+" 40 bare"), nil
	}
	linux := func(threads string) ([]string, error) {
		g := b.linuxGuest(prog, several(2))
		g.Spec.Args = []string{"prog", threads, "40", "bare"}
		return g.QEMU(b.dir)
	}
	host := func(threads string) ([]string, error) { return []string{prog, threads, "50", "bare"}, nil }
	var k, l, h [2][]float64
	for range 5 {
		for i, threads := range []string{"1", "2"} {
			if us, err := b.sum("", host, threads); err == nil {
				h[i] = append(h[i], us)
			}
			us, err := b.sum(qemu, kiln, threads)
			if err != nil {
				r.err = err
				return r
			}
			k[i] = append(k[i], us)
			if us, err = b.sum(qemu, linux, threads); err == nil {
				l[i] = append(l[i], us)
			}
		}
	}
	r.kiln = median(k[0]) / median(k[1])
	if len(l[0]) > 2 && len(l[1]) > 2 {
		r.linux = median(l[0]) / median(l[1])
	}
	if len(h[0]) > 2 && len(h[1]) > 2 {
		r.rivals = fmt.Sprintf("the host itself %.2f", median(h[0])/median(h[1]))
	}
	return r
}

const qemu = "qemu-system-x86_64"

// sum runs a guest that sums, or without a machine the program itself, and gives the
// microseconds that it says it took.
func (b *bench) sum(machine string, guest func(threads string) ([]string, error), threads string) (float64, error) {
	args, err := guest(threads)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if machine != "" {
		args = append([]string{machine}, args...)
	}
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	m := reTook.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no sum: %v: %.400s", err, out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
