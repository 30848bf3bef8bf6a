package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"kiln/apps"
	"kiln/capstan/bake"
	"kiln/capstan/catalogue"
	"kiln/tests/linuxguest"
	"kiln/tests/tapnet"
)

// load compares servers over TAP, 32 connections: requests a second and p99, the
// median of five interleaved runs.
func (b *bench) load() []row {
	var rows []row
	for _, app := range []struct {
		name string
		port int
	}{{"nginx", 80}, {"go-http", 8080}} {
		rows = append(rows, b.loadOne(app.name, app.port)...)
	}
	return rows
}

type loadResult struct{ rps, p99 float64 }

func (b *bench) loadOne(app string, port int) []row {
	rps := row{measure: app + " over TAP, 32 connections, requests a second", limit: 0.8, ratio: true, atLeast: true, unit: "/s", rivals: "Nanos 1.6"}
	p99 := row{measure: app + " over TAP, 32 connections, p99", limit: 2, ratio: true, unit: "ms", rivals: "Nanos 50"}
	fail := func(err error) []row { rps.err, p99.err = err, err; return []row{rps, p99} }
	img, err := b.bake(app, app)
	if err != nil {
		return fail(err)
	}
	guest, err := b.linuxServer(app)
	if err != nil {
		return fail(err)
	}
	var k, l, kp, lp []float64
	for range 5 {
		r, err := b.loadRun(port, func(n *tapnet.Net) (*exec.Cmd, error) {
			return n.Command(b.pack, "run", "--quiet", img, "--accel", "tcg", "--vmm", "q35", "-m", "256M", "--net", "tap:"+n.Tap, "--append", tapnet.IPArg), nil
		})
		if err != nil {
			return fail(fmt.Errorf("kiln: %w", err))
		}
		k, kp = append(k, r.rps), append(kp, r.p99)
		r, err = b.loadRun(port, func(n *tapnet.Net) (*exec.Cmd, error) {
			guest.Args = append(machine("q35", false), "-netdev", "tap,id=n,script=no,downscript=no,ifname="+n.Tap, "-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci")
			args, err := guest.QEMU(b.dir)
			return n.Command("qemu-system-x86_64", args...), err
		})
		if err != nil {
			return fail(fmt.Errorf("linux: %w", err))
		}
		l, lp = append(l, r.rps), append(lp, r.p99)
	}
	rps.kiln, rps.linux = median(k), median(l)
	// ab prints whole milliseconds; a zero would make the ratio meaningless.
	p99.kiln, p99.linux = max(median(kp), 1), max(median(lp), 1)
	return []row{rps, p99}
}

// linuxServer is the Linux guest with the files of the catalogue entry's image.
func (b *bench) linuxServer(app string) (*linuxguest.Guest, error) {
	m, err := catalogue.New(apps.FS).Load(app)
	if err != nil {
		return nil, err
	}
	img, err := bake.FromManifest(b.ctx, m, &bake.Options{Cache: filepath.Join(b.root, "build", "cache")})
	if err != nil {
		return nil, err
	}
	cfg := img.Config
	g := &linuxguest.Guest{Kernel: b.linux, Root: img.Root, Modules: linuxguest.VirtioNet}
	g.Spec.Path, g.Spec.Args, g.Spec.Env, g.Spec.Dir = cfg.Program, cfg.Args, cfg.Env, cfg.WorkDir
	g.Spec.Address, g.Spec.Mask = [4]byte{10, 77, 0, 2}, [4]byte{255, 255, 255, 0}
	return g, nil
}

var (
	reRPS = regexp.MustCompile(`Requests per second:\s+([0-9.]+)`)
	reP99 = regexp.MustCompile(`(?m)^\s+99%\s+([0-9]+)`)
)

func (b *bench) loadRun(port int, start func(*tapnet.Net) (*exec.Cmd, error)) (r loadResult, err error) {
	n, err := tapnet.New()
	if err != nil {
		return r, err
	}
	defer n.Close()
	cmd, err := start(n)
	if err != nil {
		return r, err
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		return r, err
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	}()
	url := fmt.Sprintf("http://%s:%d/", tapnet.GuestIP, port)
	up := false
	for limit := time.Now().Add(60 * time.Second); !up && time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		up = n.Command("curl", "-fsS", "-o", "/dev/null", "-m", "2", url).Run() == nil
	}
	if !up {
		return r, fmt.Errorf("no answer in a minute; console: %.600s", out.String())
	}
	n.Command("ab", "-q", "-k", "-c", "32", "-n", "500", url).Run() // warm up
	o, err := n.Command("ab", "-q", "-k", "-c", "32", "-n", "4000", "-s", "30", url).CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("ab: %v: %.600s", err, o)
	}
	m, p := reRPS.FindSubmatch(o), reP99.FindSubmatch(o)
	if m == nil || p == nil {
		return r, fmt.Errorf("ab said: %.600s", o)
	}
	r.rps, _ = strconv.ParseFloat(string(m[1]), 64)
	r.p99, _ = strconv.ParseFloat(string(p[1]), 64)
	return r, nil
}
