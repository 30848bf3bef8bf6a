package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"kiln/capstan/bake"
	"kiln/capstan/erofs"
	"kiln/capstan/manifest"
	"kiln/capstan/vmm"
	"kiln/kernel/image"
)

// runFlags are the flags of pack run.
type runFlags struct {
	ports, env, qemuArgs    []string
	volumes                 []string
	memory, vmm, accel, net string
	root, append, program   string
	init                    string
	cpus                    int
	cpusGiven               bool
	detach, strace          bool
}

func (a *app) runCmd() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run NAME|FILE [flags] [-- ARGS]",
		Short: "Boot an image, baking it first if needed",
		Long: `run boots an image, or bakes what NAME stands for first, and shows its console. It ends
when the program ends, with the program's exit status, or 128 + N if signal N killed
it. An interrupt (Ctrl-C) or SIGTERM stops the program and the machine; a second one
stops the machine at once. SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the
program, but SIGHUP on a terminal stops the machine, and so does the end of what reads
the console, as in ` + "`pack run NAME | head -1`" + `. ARGS replace the program's own
arguments. Of several programs, status, signals and arguments are the essential one's.

Without -p the ports that the image lists are forwarded to ports of this machine that
are free, which are shown.`,
		Args: func(cmd *cobra.Command, args []string) error {
			n := len(args)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				n = dash
			}
			if n < 1 {
				return usagef("say what to run: see `pack run --help`")
			}
			if n > 1 {
				return usagef("%q is one argument too many: put -- before the program's arguments", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var rest []string
			if cmd.ArgsLenAtDash() >= 0 {
				rest = append([]string{}, args[1:]...)
			}
			f.cpusGiven = cmd.Flags().Changed("cpus")
			status, err := a.run(cmd.Context(), args[0], rest, &f)
			a.status = status
			return err
		},
	}
	fl := c.Flags()
	fl.StringArrayVarP(&f.ports, "port", "p", nil, "forward a TCP port, [ADDRESS:]HOST:GUEST; HOST 0 takes a free one; none forwards nothing")
	fl.StringVarP(&f.memory, "memory", "m", "", "memory of the machine, as 64M or 1G")
	fl.IntVarP(&f.cpus, "cpus", "c", 1, "number of virtual CPUs, 1 to 64; default 1, or what the manifest says")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set an environment variable, K=V")
	fl.StringVar(&f.vmm, "vmm", "microvm", "machine: microvm, q35 (or qemu) or pc; or process: no machine, the kernel as a process of this host")
	fl.StringVar(&f.accel, "accel", "auto", "auto (KVM if it proves fast), kvm or tcg")
	fl.StringVar(&f.net, "net", "user", "network: user, none or tap:INTERFACE")
	fl.StringVar(&f.root, "root", "auto", "where the root is: memory, disk, or auto (disk from 32 MB)")
	fl.BoolVar(&f.strace, "strace", false, "log every system call on the console")
	fl.StringVar(&f.append, "append", "", "kernel command line")
	fl.StringArrayVar(&f.qemuArgs, "qemu-arg", nil, "one more argument for QEMU")
	fl.StringVar(&f.program, "program", "", "the program's path in a package or root")
	fl.StringVar(&f.init, "init", "", "the path of another program of the image, to run instead of its own")
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "attach a volume (not in this version)")
	fl.StringVar(&a.control, "control", "", "a Unix socket to make, for lines to the machine's control port")
	fl.Lookup("control").Hidden = true
	fl.BoolVarP(&f.detach, "detach", "d", false, "run in the background (not in this version)")
	return c
}

func (a *app) run(ctx context.Context, ref string, args []string, f *runFlags) (int, error) {
	m, err := f.machine()
	if err != nil {
		return 0, err
	}
	if _, err := m.Find(); err != nil {
		return 0, err
	}
	defer withoutSIGPIPE()()
	sig := newMachineSignals()
	defer sig.giveBack() // once all that was made for this run is removed
	work, release := a.interruptible(ctx)
	defer release()
	file, done, err := a.imageFor(work, ref, f.program)
	if err != nil {
		return 0, err
	}
	defer done()
	p, err := vmm.Prepare(work, file, f.root, func(c *image.Config) (bool, error) { return f.override(c, args) })
	if failed := new(vmm.WriteError); errors.As(err, &failed) {
		return 0, err
	} else if err != nil {
		return 0, usageError{err}
	}
	defer p.Close()
	if p.Detached && m.Kind != vmm.Process { // that one maps it, wherever it is in the file
		return 0, usagef("the root of %s is too large for a machine's memory: leave --root memory out, and it is read from a disk", file)
	}
	m.StopTime = stopTime(p.Config, f.append)
	m.Kernel, m.Root = p.Kernel, p.Root
	ownAddress(m, &p.Config.Network)
	if !f.cpusGiven && p.Config.CPUs > 0 {
		m.CPUs = p.Config.CPUs
	}
	if err := f.setMemory(m, p); err != nil {
		return 0, err
	}
	if err := a.forwards(m, f, p.Config); err != nil {
		return 0, err
	}
	if m.Accel == "auto" && m.Kind != vmm.Process {
		a.chooseAccel(work, m)
	}
	sig.catch(a.hangup)
	release()
	if a.interrupted != nil {
		return 0, work.Err()
	}
	return a.boot(ctx, m, sig)
}

// machine checks the flags that need no image.
func (f *runFlags) machine() (*vmm.Machine, error) {
	if f.detach {
		return nil, usagef("-d is not in this version: leave it out, and put & behind the command")
	}
	if len(f.volumes) > 0 {
		return nil, usagef("-v is not in this version: put the files into the image with a manifest")
	}
	m := &vmm.Machine{Kind: f.vmm, Accel: f.accel, CPUs: f.cpus, Net: f.net, Append: f.append, Extra: f.qemuArgs}
	if m.Kind == "qemu" {
		m.Kind = "q35"
	}
	if m.Kind != vmm.Process && !slices.Contains(vmm.Kinds, m.Kind) {
		return nil, usagef("there is no machine %q: choose --vmm %s or process", f.vmm, strings.Join(vmm.Kinds, ", "))
	}
	if !slices.Contains([]string{"auto", "kvm", "tcg"}, f.accel) {
		return nil, usagef("there is no accelerator %q: choose --accel auto, kvm or tcg", f.accel)
	}
	if f.cpus < 1 || f.cpus > image.MaxCPUs {
		return nil, usagef("-c %d: a machine has 1 to %d CPUs", f.cpus, image.MaxCPUs)
	}
	tap, isTap := strings.CutPrefix(f.net, "tap:")
	if f.net != "user" && f.net != "none" && (!isTap || tap == "" || strings.ContainsAny(tap, ",/ ")) {
		return nil, usagef("there is no network %q: choose --net user, none or tap:INTERFACE", f.net)
	}
	if m.Kind == vmm.Process {
		if err := f.process(); err != nil {
			return nil, err
		}
	}
	for _, e := range f.env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return nil, usagef("-e %q is no setting: write it as NAME=VALUE", e)
		}
	}
	if f.init != "" && !path.IsAbs(f.init) {
		return nil, usagef("--init %q is not an absolute path of the image", f.init)
	}
	if f.memory != "" {
		n, err := manifest.ParseSize(f.memory)
		if err != nil {
			return nil, usagef("-m %w", err)
		}
		m.Memory = n
	}
	return m, nil
}

// process checks the flags for a kernel that is a process, and says what it has not.
func (f *runFlags) process() error {
	switch {
	case f.root == "disk":
		return usagef("--vmm process has no disks, and so no --root disk: leave it out, the root is in memory")
	case strings.HasPrefix(f.net, "tap:"):
		return usagef("--vmm process has no card for --net %s: choose user or none, or a machine with --vmm microvm", f.net)
	case f.accel != "auto":
		return usagef("--vmm process runs on the host's own processor, without --accel %s: leave it out", f.accel)
	case len(f.qemuArgs) > 0:
		return usagef("--vmm process has no QEMU for --qemu-arg: leave it out")
	}
	f.root = "memory"
	return nil
}

// ownAddress tells the machine what address an image has by itself, if any.
func ownAddress(m *vmm.Machine, n *image.Network) {
	m.Offline = n.Mode == "none"
	if n.Mode != "static" {
		return
	}
	// What cannot be read is the kernel's to complain of.
	m.Address, _ = netip.ParsePrefix(n.Address)
	m.Gateway, _ = netip.ParseAddr(n.Gateway)
	for _, d := range n.DNS {
		if a, err := netip.ParseAddr(d); err == nil && m.Address.Contains(a) {
			m.DNS = a
			break
		}
	}
}

// stopTime is how long the programs may take to end, with the kernel command line's patience.
func stopTime(c *image.Config, line string) time.Duration {
	own := *c
	own.Programs = slices.Clone(c.Programs)
	for _, word := range strings.Fields(strings.ReplaceAll(line, `"`, "")) {
		if word == "--" {
			break
		}
		key, value, _ := strings.Cut(word, "=")
		key, ours := strings.CutPrefix(key, "kiln.program.")
		if name, ok := strings.CutSuffix(key, ".patience"); ok && ours {
			if p := own.Find(name); p != nil {
				p.Patience.UnmarshalText([]byte(value)) // what is no time the kernel complains of
			}
		}
	}
	return time.Duration(own.StopTime())
}

// override puts arguments, environment and logging into a configuration, and reports
// whether anything changed.
func (f *runFlags) override(c *image.Config, args []string) (changed bool, err error) {
	if f.init != "" {
		c.Program, c.Args, c.Programs, changed = f.init, []string{path.Base(f.init)}, nil, true
	}
	if args != nil {
		if err := c.SetArgs(args); err != nil {
			return false, err
		}
		changed = true
	}
	for _, e := range f.env {
		k, v, _ := strings.Cut(e, "=")
		c.SetEnv(k, v)
		changed = true
	}
	if f.strace && !c.Strace {
		c.Strace, changed = true, true
	}
	return changed, nil
}

// defaultMemory is what a machine gets that nobody chose for.
const defaultMemory = 128 << 20

func (f *runFlags) setMemory(m *vmm.Machine, p *vmm.Prepared) error {
	need := int64(p.Boot.MinRAM)
	if m.Memory == 0 {
		if m.Memory = p.Config.Memory; m.Memory == 0 {
			m.Memory = defaultMemory
		}
		// Room for the program beside the image, in steps that are easy to read.
		for m.Memory < need+32<<20 {
			m.Memory += 64 << 20
		}
		return nil
	}
	if m.Memory < need {
		return usagef("%s is too little memory for %s, which needs at least %s: say -m %dM", megabytes(m.Memory), p.Config.Name,
			megabytes(need), (need+1<<20-1)>>20)
	}
	return nil
}

func (a *app) forwards(m *vmm.Machine, f *runFlags, c *image.Config) error {
	if len(f.ports) == 1 && f.ports[0] == "none" {
		return nil
	}
	if m.Net != "user" {
		if len(f.ports) > 0 {
			return usagef("-p forwards ports of the user network only, not of --net %s", m.Net)
		}
		return nil
	}
	if err := m.Reachable(); err != nil && len(f.ports) > 0 {
		return usagef("-p cannot be: %w", err)
	} else if err != nil && len(c.Ports) > 0 {
		a.say("no port is forwarded: %v", err)
		return nil
	}
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, p := range f.ports {
		fw, err := vmm.ParseForward(p)
		if err != nil {
			return usagef("-p %w", err)
		}
		for _, o := range m.Forwards {
			if o.Host == fw.Host && o.Addr == fw.Addr {
				return usagef("-p %q: port %d of this machine is forwarded already", p, fw.Host)
			}
		}
		chosen := fw.Host == 0
		l, err := fw.Choose()
		if err != nil {
			return err
		}
		held = append(held, l)
		m.Forwards = append(m.Forwards, fw)
		if chosen {
			a.say("port %d of the machine is %s here", fw.Guest, fw)
		}
	}
	if len(f.ports) > 0 {
		return nil
	}
	for _, guest := range c.Ports {
		fw, l := defaultForward(guest)
		if l == nil {
			continue
		}
		held = append(held, l)
		m.Forwards = append(m.Forwards, fw)
		a.say("port %d of the machine is %s here", guest, fw)
	}
	return nil
}

// defaultForward takes the same port here, or 8000 more for one that needs root, or
// any that is free.
func defaultForward(guest int) (vmm.Forward, net.Listener) {
	host := guest
	if host < 1024 {
		host += 8000
	}
	for _, h := range []int{host, 0} {
		fw := vmm.Forward{Addr: "127.0.0.1", Host: h, Guest: guest}
		if l, err := fw.Choose(); err == nil {
			return fw, l
		}
	}
	return vmm.Forward{}, nil
}

func (a *app) chooseAccel(ctx context.Context, m *vmm.Machine) {
	ok, why := kvmVerdict(ctx)
	if ok {
		m.Accel = "kvm"
		return
	}
	m.Accel = "tcg"
	if ctx.Err() != nil {
		return // there will be no machine
	}
	a.say("running without KVM, which is slower: %s", why)
}

// boot runs the machine on this terminal.
func (a *app) boot(ctx context.Context, m *vmm.Machine, sig *machineSignals) (int, error) {
	in, done := input(os.Stdin)
	defer done()
	s := vmm.Streams{In: in, Out: a.out, Err: a.err, Plain: !isTerminal(a.out), Signals: sig.pass}
	if a.control != "" {
		l, err := net.Listen("unix", a.control)
		if err != nil {
			return 0, fmt.Errorf("the control socket cannot be made: %w", err)
		}
		defer l.Close()
		s.Control = l
	}
	return vmm.Run(ctx, m, s, sig.stop)
}

// imageFor is the image's file for a name, baked if it is not one already. done removes
// what was made for this run only.
func (a *app) imageFor(ctx context.Context, ref, program string) (file string, done func(), err error) {
	done = func() {}
	if kiln, err := isImage(ref); err != nil {
		return "", nil, usagef("%s cannot be run (%w): make an image with `pack NAME` or `pack build`", ref, err)
	} else if kiln {
		return ref, done, a.bakesNothing(ref, program)
	}
	o, err := a.options()
	if err != nil {
		return "", done, err
	}
	if o.Kernel, err = bake.FindKernel(o.Kernel); err != nil {
		return "", done, err
	}
	img, err := a.gather(ctx, ref, program, o)
	if err != nil {
		return "", done, err
	}
	if img.Compress == "" && o.Compress == "" {
		o.Compress = erofs.None // the file is gone after the run
	}
	dir, done, err := runFolder(filepath.Join(o.Cache, "images"))
	if err != nil {
		return "", nil, err
	}
	file = filepath.Join(dir, img.Config.Name+".img")
	if _, err := bake.Write(ctx, file, img, o); err != nil {
		done()
		return "", nil, err
	}
	return file, done, nil
}

// bakesNothing refuses the flags that only say how to bake.
func (a *app) bakesNothing(ref, program string) error {
	flag := ""
	switch {
	case program != "":
		return usagef("--program says what to bake, and %s is an image already: --init runs another of its programs", ref)
	case a.kernel != "":
		flag = "--kernel"
	case a.compress != "":
		flag = "--compress"
	case a.noHost:
		flag = "--no-host"
	default:
		return nil
	}
	return usagef("%s says how to bake, and %s is an image already: leave it out, or bake it again", flag, ref)
}
