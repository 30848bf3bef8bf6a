package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kiln/tests/linuxguest"
	"kiln/tests/linuxguest/spec"
	"kiln/tests/vmtest"
)

// machine is the QEMU line shared by both guests.
func machine(kind string, icount bool) []string {
	a := []string{"-M", kind, "-cpu", "max", "-m", "256M", "-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot"}
	if icount {
		return append(a, "-accel", "tcg", "-icount", "shift=0,sleep=off")
	}
	return append(a, "-accel", "tcg")
}

func (b *bench) bake(what, name string) (string, error) {
	img := filepath.Join(b.dir, name+".img")
	if out, err := exec.Command(b.pack, "build", what, "-o", img).CombinedOutput(); err != nil {
		return "", fmt.Errorf("pack build %s: %v: %s", what, err, bytes.TrimSpace(out))
	}
	return img, nil
}

func (b *bench) linuxGuest(prog string, args []string) *linuxguest.Guest {
	data, _ := os.ReadFile(prog)
	return &linuxguest.Guest{
		Kernel: b.linux,
		Files:  map[string]string{"/prog": string(data)},
		Spec:   spec.Spec{Path: "/prog", Args: []string{"prog"}},
		Args:   args,
	}
}

// boot counts instructions with the plugin.
func (b *bench) boot() []row {
	img, err := b.bake(b.hello, "hello")
	if err != nil {
		return []row{{measure: "boot", err: err}}
	}
	count := func(kind, from string) (float64, error) {
		log := filepath.Join(b.dir, "insns."+kind)
		plugin := b.plugin
		if from != "" {
			plugin += ",from=" + from
		}
		ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
		defer cancel()
		args := append(machine(kind, false), "-kernel", img, "-plugin", plugin, "-d", "plugin", "-D", log)
		out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("hello, world")) {
			return 0, fmt.Errorf("%s: %v: %.400s", kind, err, out)
		}
		return scanInsns(log)
	}
	entry, err := pvhEntry(img)
	if err != nil {
		return []row{{measure: "boot", err: err}}
	}
	micro, err1 := count("microvm", fmt.Sprintf("%#x", entry))
	q35, err2 := count("q35", "")
	return []row{
		{measure: "instructions, PVH entry to a static hello's exit, microvm", kiln: micro, limit: 15e6, unit: "insns", rivals: "OSv 18-22 M from reset, Linux 1,479 M", err: err1},
		{measure: "instructions, reset to a static hello's exit, q35", kiln: q35, limit: 32e6, unit: "insns", err: err2},
	}
}

func scanInsns(log string) (float64, error) {
	data, err := os.ReadFile(log)
	if err != nil {
		return 0, err
	}
	var n float64
	if i := bytes.Index(data, []byte("insns ")); i >= 0 {
		_, err = fmt.Sscanf(string(data[i:]), "insns %g", &n)
		return n, err
	}
	return 0, errors.New("the plugin said nothing")
}

// pvhEntry is the address in the image's PVH note.
func pvhEntry(img string) (uint64, error) {
	data, err := os.ReadFile(img)
	if err != nil {
		return 0, err
	}
	i := bytes.Index(data[:min(len(data), 4096)], []byte("Xen\x00"))
	if i < 0 {
		return 0, errors.New("no PVH note")
	}
	e := uint64(0)
	for j := range 8 {
		e |= uint64(data[i+4+j]) << (8 * j)
	}
	return e, nil
}

// firstOutput is the median of five interleaved runs.
func (b *bench) firstOutput() []row {
	r := row{measure: "seconds to first output, static hello, microvm", limit: 0.15, ratio: true, unit: "s", rivals: "OSv 0.06"}
	img, err := b.bake(b.hello, "hello")
	if err != nil {
		r.err = err
		return []row{r}
	}
	g := b.linuxGuest(b.hello, machine("microvm", false))
	largs, err := g.QEMU(b.dir)
	if err != nil {
		r.err = err
		return []row{r}
	}
	kargs := append(machine("microvm", false), "-kernel", img)
	var k, l []float64
	for range 5 {
		a, err := b.untilOutput(kargs)
		if err != nil {
			r.err = fmt.Errorf("kiln: %w", err)
			return []row{r}
		}
		// Linux's TSC calibration fails now and then on a loaded host, and the guest
		// then hangs: such a run says nothing about either kernel.
		c, err := b.untilOutput(largs)
		for try := 0; err != nil && try < 4; try++ {
			c, err = b.untilOutput(largs)
		}
		if err != nil {
			r.err = fmt.Errorf("linux: %w", err)
			return []row{r}
		}
		k, l = append(k, a), append(l, c)
	}
	r.kiln, r.linux = median(k), median(l)
	return []row{r}
}

func median(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }

func (b *bench) untilOutput(args []string) (float64, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var seen strings.Builder
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if strings.Contains(sc.Text(), "hello, world") {
			return time.Since(start).Seconds(), nil
		}
		seen.WriteString(sc.Text() + "\n")
	}
	return 0, fmt.Errorf("no hello: %s", seen.String())
}

func (b *bench) sizes() []row {
	stripped := filepath.Join(b.dir, "kernel.stripped")
	k := row{measure: "kernel ELF, stripped", limit: 12, unit: "MB", rivals: "OSv 6.4"}
	k.err = exec.Command("strip", "-o", stripped, filepath.Join(b.root, "build", "kernel.unlinked")).Run()
	if st, err := os.Stat(stripped); err == nil {
		k.kiln = float64(st.Size()) / 1e6
	}
	n := row{measure: "nginx image", limit: 20, unit: "MB", rivals: "OSv 11.7"}
	img, err := b.bake("nginx", "nginx")
	if n.err = err; err == nil {
		st, err := os.Stat(img)
		if n.err = err; err == nil {
			n.kiln = float64(st.Size()) / 1e6
		}
	}
	return []row{k, n}
}

// memory finds the least whole MB at which nginx answers, from the limit down.
func (b *bench) memory() []row {
	r := row{measure: "least -m with nginx serving", limit: 40, unit: "MB", rivals: "OSv 24"}
	img, err := b.bake("nginx", "nginx")
	if err != nil {
		r.err = err
		return []row{r}
	}
	lo, hi := 16, 64 // lo fails, hi serves
	if !b.serves(img, hi) {
		r.err = errors.New("nginx does not serve at 64 MB")
		return []row{r}
	}
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; b.serves(img, mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	r.kiln = float64(hi)
	return []row{r}
}

func (b *bench) serves(img string, mb int) bool {
	port, err := vmtest.FreePort(0)
	if err != nil {
		return false
	}
	cmd := exec.Command(b.pack, "run", "--quiet", img, "--accel", "tcg", "-m", fmt.Sprintf("%dM", mb), "-p", fmt.Sprintf("%d:80", port))
	if cmd.Start() != nil {
		return false
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			cmd.Process.Kill()
		}
	}()
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	good := 0
	for limit := time.Now().Add(15 * time.Second); time.Now().Before(limit); {
		select {
		case <-ended:
			return false
		case <-time.After(100 * time.Millisecond):
		}
		resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == 200 && len(body) > 0 {
			if good++; good == 20 {
				return true
			}
		}
	}
	return false
}

// calls runs micro under -icount in both guests.
func (b *bench) calls() []row {
	return b.counted("calls", b.micro, []row{
		{measure: "getpid", limit: 450, rivals: "Linux 316, OSv 167-179"},
		{measure: "clock_gettime", limit: 80, rivals: "Linux 66-78"},
		{measure: "mmap_touch_munmap", rivals: "OSv 9,534, Linux 47,300"},
		{measure: "pread4k"}, {measure: "write_null"},
	})
}

// processes is what more than one process costs.
func (b *bench) processes() []row {
	return b.counted("processes", b.procs, []row{
		{measure: "fork_exit_wait", limit: 0.7, ratio: true},
		{measure: "fork_exit_wait_4mb"},
		{measure: "vfork_exec_wait", limit: 0.7, ratio: true},
		{measure: "pipe_round_trip", limit: 0.6, ratio: true},
		{measure: "futex_switch", limit: 0.6, ratio: true},
		{measure: "cow_fault", limit: 0.7, ratio: true},
	})
}

// operations is what single operations cost: each at most 0.8 of Linux's instructions, and at
// most OSv's where they are known.
func (b *bench) operations() []row {
	rows := []row{
		{measure: "tmpfs_read1"}, {measure: "tmpfs_write1"}, {measure: "tmpfs_read4k"}, {measure: "tmpfs_write4k"},
		{measure: "pipe_read1"}, {measure: "pipe_write1"}, {measure: "pipe_read4k"}, {measure: "pipe_write4k"},
		{measure: "open_close"}, {measure: "stat1"}, {measure: "stat6"}, {measure: "epoll_wait"},
		{measure: "futex_wake"}, {measure: "futex_ping_pong"}, {measure: "signal"},
		{measure: "mmap_touch_munmap", most: 9534, rivals: "OSv 9,534"},
		{measure: "page_fault"},
		{measure: "thread_create_join", most: 83500, rivals: "OSv 83,500"},
		{measure: "timer_set_fire"},
		{measure: "pipe_ping_pong", most: 5937, rivals: "OSv 5,937"},
		{measure: "unix_ping_pong"}, {measure: "tcp_ping_pong"}, {measure: "tcp_64k"},
	}
	for i := range rows {
		rows[i].limit, rows[i].ratio = 0.8, true
	}
	return b.counted("operations", b.ops, rows)
}

// counted runs prog under -icount in both guests and fills in the rows, each of
// which names what the program prints.
func (b *bench) counted(name, prog string, rows []row) []row {
	fail := func(err error) []row { return []row{{measure: name, err: err}} }
	img, err := b.bake(prog, name)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", append(machine("microvm", true), "-kernel", img)...).CombinedOutput()
	if err != nil {
		return fail(fmt.Errorf("kiln: %v: %.400s", err, out))
	}
	lout, err := b.linuxGuest(prog, machine("microvm", true)).Run(ctx)
	if err != nil {
		return fail(fmt.Errorf("linux: %v: %.400s", err, lout))
	}
	k, l := numbers(string(out)), numbers(lout)
	for i := range rows {
		r := &rows[i]
		if _, ok := k[r.measure]; !ok {
			r.err = fmt.Errorf("kiln printed no %s: %.400s", r.measure, out)
		} else if _, ok := l[r.measure]; !ok {
			r.err = fmt.Errorf("linux printed no %s: %.400s", r.measure, lout)
		}
		r.kiln, r.linux, r.unit = k[r.measure]/100, l[r.measure]/100, "insns"
	}
	return rows
}

func numbers(out string) map[string]float64 {
	m := map[string]float64{}
	for _, line := range strings.Split(out, "\n") {
		if name, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				m[name] = n
			}
		}
	}
	return m
}
