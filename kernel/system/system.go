// Package system wires the kernel's parts together over any hal.Machine: on metal it is
// what cmd/kernel runs, on hosted what the tests run.
//
//	s, err := system.New(m, system.Options{})
//	status := s.Run() // boots, runs the program to its end
//	s.Shutdown(status)
//
// The order in New is that of dependence: log, memory, timers, devices, network, file
// systems, kernel, program.
package system

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kiln/drivers"
	"kiln/fs/devfs"
	"kiln/fs/devpts"
	"kiln/fs/mqueue"
	"kiln/fs/pipe"
	"kiln/fs/rootfs"
	"kiln/fs/tty"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/image"
	"kiln/kernel/ipc"
	"kiln/kernel/mm"
	"kiln/kernel/task"
	"kiln/kernel/timer"
	"kiln/kernel/wait"
	"kiln/loader/vdso"
	"kiln/net"
	"kiln/syscalls"
)

// Options change what New does; the zero value is a real machine.
type Options struct {
	// Config replaces the image's document.
	Config *image.Config
	// NoDevices leaves out the search for devices (hosted).
	NoDevices bool
	// Console, if set, is the terminal's port; else the serial port or, without one,
	// the base's console.
	Console tty.Port
	// Cards are network cards, and Control the host's line, of a machine whose devices
	// are not searched for.
	Cards   []Card
	Control ControlPort
	// Without names system calls that this machine is not to have (tests).
	Without []string
	// Observe hears of each system call and its result (syscalls.Dispatcher; tests).
	Observe func(t *task.Thread, name string, a syscalls.Args) (done func(err error))
}

// Card is a network card that Start brings to life.
type Card interface {
	net.Device
	Start() error
}

// input is a Console that reads as well, as long as there is room.
type input interface {
	SetInput(receive func([]byte), room func() int)
}

// System is one booted machine.
type System struct {
	m       hal.Machine
	cfg     *image.Config
	cmdline Cmdline
	log     *logger
	timers  *timer.Queue
	mem     *mm.Memory
	devs    *drivers.Devices
	net     *net.Stack
	terms   *tty.Host
	tty     *tty.TTY
	ptys    *devpts.System
	ns      *vfs.Namespace
	etc     etc
	vdso    *vdso.VDSO
	retime  timer.Timer // tells programs the refined rate of the clock
	calls   *syscalls.Dispatcher
	kernel  *task.Kernel
	control control
	// programs is set where the image has several.
	programs atomic.Pointer[programs]
	done     chan ending
	atExit   string // one of image.AtExits
}

// ending is how the machine comes to its end.
type ending struct {
	status uint32 // wait4's
	atExit string
}

// New brings everything up but the program.
func New(m hal.Machine, o Options) (*System, error) {
	s := &System{m: m, done: make(chan ending, 1)}
	if err := s.configure(o.Config); err != nil {
		return nil, err
	}
	s.log = newLogger(m, s.cfg.LogLevel)
	s.checkConfig()
	s.timers = timer.NewQueue(m)
	s.mem = mm.NewMemory(m)
	if err := s.devices(o.NoDevices); err != nil {
		return nil, err
	}
	if err := s.network(o.Cards); err != nil {
		return nil, err
	}
	if err := s.files(o.Console); err != nil {
		return nil, err
	}
	if o.Control != nil {
		s.control.connect(o.Control)
	}
	if err := s.start(&o); err != nil {
		return s, err
	}
	if in, ok := o.Console.(input); ok {
		in.SetInput(s.tty.Receive, s.tty.InputRoom)
	}
	return s, nil
}

// configure reads the image's document and the command line.
func (s *System) configure(cfg *image.Config) (err error) {
	boot := s.m.Boot()
	if cfg == nil {
		if boot.Config == nil {
			return errors.New("this kernel has no image behind it: make one with `pack`, as in `pack nginx -o nginx.img`")
		}
		if cfg, err = image.ParseConfig(boot.Config); err != nil {
			return err
		}
	}
	s.cfg = cfg
	s.cmdline = ParseCmdline(boot.Cmdline)
	return s.cmdline.Apply(cfg)
}

// checkConfig warns of values that are not known, and settles what happens at the end.
func (s *System) checkConfig() {
	for _, err := range s.cfg.Check() {
		s.log.log("warn", "the configuration's %v: the default is used", err)
	}
	s.atExit = image.AtExitPowerOff
	if slices.Contains(image.AtExits, s.cfg.AtExit) {
		s.atExit = s.cfg.AtExit
	}
}

func (s *System) devices(none bool) (err error) {
	if none {
		s.devs = &drivers.Devices{}
		return nil
	}
	s.devs, err = drivers.Probe(s.m, func(f string, a ...any) { s.log.log("info", f, a...) }, drivers.WithTimers(s.timers))
	if err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	for _, e := range s.devs.Failed {
		s.log.log("error", "%v", e)
	}
	for _, u := range s.devs.Unsupported {
		level := "info"
		if u.Important {
			level = "warn"
		}
		s.log.log(level, "%s", u.Text)
	}
	for _, c := range s.devs.Consoles {
		c.OnPort(s.control.attach)
	}
	return nil
}

func (s *System) network(cards []Card) (err error) {
	s.net, err = net.New(net.Config{
		Machine: s.m, Timers: s.timers, Budget: s.mem.Budget(), Mem: s.mem, RAM: s.mem.TotalPages() << hal.PageShift,
		Log: s.log.log, Hostname: s.cfg.Hostname,
	})
	if err != nil {
		return err
	}
	for _, d := range s.devs.Net {
		cards = append(cards, d)
	}
	for i, d := range cards {
		if err := s.net.AddDevice(fmt.Sprintf("eth%d", i), d); err != nil {
			return err
		}
		if err := d.Start(); err != nil {
			s.log.log("error", "eth%d: %v", i, err)
		}
	}
	for i, d := range s.devs.Vsocks {
		if !s.net.AddVsock(d) {
			s.log.log("warn", "a second virtio-vsock device is not used")
		} else if err := d.Start(); err != nil {
			s.log.log("error", "virtio-vsock%d: %v", i, err)
		}
	}
	return nil
}

// console is where the terminal writes.
func (s *System) console(p tty.Port) tty.Port {
	switch {
	case p != nil:
		return p
	case s.devs.UART != nil:
		apart := s.devs.UART.Apart
		s.log.apart.Store(&apart)
		return s.devs.UART
	}
	return earlyConsole{s.m}
}

type earlyConsole struct{ m hal.Machine }

func (e earlyConsole) Write(b []byte) int { e.m.ConsoleWrite(b); return len(b) }
func (earlyConsole) Room() int            { return 1 << 16 }
func (earlyConsole) Pending() int         { return 0 }
func (earlyConsole) OnWritable(func())    {}

func (s *System) files(port tty.Port) (err error) {
	c := wait.Background()
	boot := s.m.Boot()
	pipe.Install(s.mem)
	vfs.Init(s.mem)
	s.terms = &tty.Host{Now: s.m.Nanotime, Wall: s.m.Walltime, Budget: s.mem.Budget()}
	s.tty = s.terms.NewConsole(s.console(port), unix.Mkdev(4, 64))
	rc := rootfs.Config{
		Frame: boot.RootFrame, Size: boot.RootSize,
		Dev: devfs.Config{Entropy: s.m.Entropy, AddEntropy: s.m.AddEntropy, Console: s.tty, Terminals: s.terms, Tun: s.net.OpenTun, Vsock: s.net.OpenVsock,
			Messages: &s.log.ring, Say: s.log.say},
	}
	if d := s.devs.Disk(drivers.RootSerial); d != nil {
		rc.Disk = d
	}
	if s.ns, err = rootfs.Build(c, s.mem, rc); err != nil {
		return err
	}
	if err := s.pseudoTerminals(c); err != nil {
		return err
	}
	for _, m := range s.cfg.Mounts {
		if err := s.mount(m); err != nil {
			return err
		}
	}
	s.writeEtc()
	s.net.OnConfig(s.writeEtc)
	return nil
}

// pseudoTerminals mounts /dev/pts with Debian's options: group 5 is tty.
func (s *System) pseudoTerminals(c wait.Context) error {
	s.ptys = devpts.New(s.terms, s.ns)
	s.ns.Register("devpts", vfs.FSType{NoDev: true, New: s.ptys.Mount})
	fs, err := s.ptys.Instance("gid=5,mode=620,ptmxmode=000")
	if err != nil {
		return err
	}
	s.ptys.SetPrimary(fs)
	return rootfs.MountAt(c, s.ns, fs, "devpts", "/dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_RELATIME)
}

func (s *System) mount(m image.Mount) error {
	c := wait.Background()
	if err := rootfs.MkdirAll(c, s.ns, m.Target); err != nil {
		return fmt.Errorf("mount on %s: %w", m.Target, err)
	}
	if err := s.ns.Mount(rootfs.Kernel(c, s.ns), m.Source, m.Target, m.Type, 0, m.Options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err)
	}
	return nil
}

func (s *System) hostname() string {
	if s.cfg.Hostname != "" {
		return s.cfg.Hostname
	}
	return "kiln"
}

// start makes the kernel and what shows it.
func (s *System) start(o *Options) (err error) {
	if s.vdso, err = vdso.New(s.mem); err != nil {
		return err
	}
	s.vdso.SetCPUSegment(s.m.Features().CPUSegment)
	s.vdso.Update(s.m.TimeParams())
	s.calls = syscalls.New()
	s.calls.VDSO = s.vdso
	s.calls.IPC, s.calls.MQ = ipc.New(s.mem, s.m), mqueue.New(s.mem)
	s.ns.Register("mqueue", s.calls.MQ.Mountable())
	s.calls.Messages = &s.log.ring
	s.calls.Without(o.Without)
	s.calls.Observe = o.Observe
	s.kernel = task.NewKernel(task.Config{
		M: s.m, Mem: s.mem, Timers: s.timers, NS: s.ns, Net: s.net, Syscalls: s.calls,
		Log: s.log.log, Hostname: s.hostname(),
		OnInitExit: func(status uint32) { s.end(ending{status, s.atExit}) },
	})
	s.kernel.OnReboot = s.reboot
	s.observe()
	s.kernel.NewSemUndo = s.calls.IPC.NewUndo
	s.kernel.OnTimeChange = func() { s.vdso.Update(s.m.TimeParams()) }
	s.retime.Init(s.kernel.OnTimeChange)
	s.timers.Arm(&s.retime, s.timers.Now()+int64(time.Second))
	s.kernel.Strace.Store(s.cfg.Strace || o.Observe != nil)
	if err := s.pseudo(); err != nil {
		return err
	}
	j := jobs{s.kernel}
	s.terms.Jobs, s.kernel.OnLeaderExit = j, j.leaderEnded
	if s.devs.UART != nil {
		s.devs.UART.SetReceiver(s.tty.Receive)
	}
	s.serveControl()
	return s.net.Configure(s.cfg.Network, s.ipWord())
}

// ipWord is the value of ip= on the command line.
func (s *System) ipWord() string {
	for _, w := range splitWords(s.m.Boot().Cmdline) {
		if v, ok := strings.CutPrefix(w, "ip="); ok {
			return v
		}
	}
	return ""
}

// Run starts the program, or the several, and waits for the end; the status is wait4's.
func (s *System) Run() (status uint32, err error) {
	if len(s.cfg.Programs) > 0 {
		s.supervise()
	} else if err := s.program(); err != nil {
		return 0, err
	}
	e := <-s.done
	s.atExit = e.atExit
	return e.status, nil
}

// end says that the machine is to end; the first word counts.
func (s *System) end(e ending) {
	select {
	case s.done <- e:
	default:
	}
}

// reboot serves reboot(2): status 0, since the program ended its machine in order. It
// does not return, and the calling thread keeps its CPU.
func (s *System) reboot(cmd uint32) {
	e := ending{atExit: image.AtExitPowerOff}
	switch cmd {
	case unix.LINUX_REBOOT_CMD_RESTART:
		e.atExit = image.AtExitReboot
	case unix.LINUX_REBOOT_CMD_HALT:
		e.atExit = image.AtExitHalt
	}
	s.end(e)
	select {}
}

// Shutdown lets what the program has sent leave, tells the host how the program ended and turns
// the machine off, or resets or halts it if it was told to.
func (s *System) Shutdown(status uint32) {
	if !s.net.Leave(func() { time.Sleep(time.Millisecond) }) {
		s.log.log("warn", "net: the machine ends with bytes on their way that their receiver does not take")
	}
	s.say(statusLine(status))
	s.off()
}

func (s *System) say(line string) {
	for i := 0; !s.control.say(line) && i < 500 && len(s.devs.Consoles) > 0; i++ {
		// The port of a program that ends at once may not have been announced yet.
		time.Sleep(time.Millisecond)
	}
	if s.devs.UART != nil {
		s.devs.UART.Drain(100000)
	}
	if s.cmdline.Nonce != "" {
		s.m.ConsoleWrite([]byte("kiln: " + s.cmdline.Nonce + " " + line + "\n"))
	}
	s.control.drain(func() { time.Sleep(time.Millisecond) })
}

func (s *System) off() {
	switch s.atExit {
	case image.AtExitHalt:
		s.m.ConsoleWrite([]byte("kiln: halted\n"))
		select {}
	case image.AtExitReboot:
		s.m.Reboot()
	}
	s.m.PowerOff()
}

// Panic reports a failure of the kernel's own: status 125.
func Panic(m hal.Machine, s *System, why any) {
	m.ConsoleWrite(fmt.Appendf(nil, "kiln: the kernel cannot go on: %v\n", why))
	if s != nil && s.devs != nil {
		s.say("panic")
	}
	m.PowerOff()
	runtime.Goexit()
}
