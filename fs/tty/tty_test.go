package tty

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// line is a Port that takes up to room bytes, all if room is negative.
type line struct {
	mu   sync.Mutex
	out  []byte
	room int
	more func()
}

func (l *line) Write(b []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room >= 0 {
		b = b[:min(len(b), l.room)]
		l.room -= len(b)
	}
	l.out = append(l.out, b...)
	return len(b)
}
func (l *line) OnWritable(f func()) { l.more = f }
func (l *line) Pending() int        { return 0 }
func (l *line) Room() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room < 0 {
		return 1 << 20
	}
	return l.room
}
func (l *line) text() string { l.mu.Lock(); defer l.mu.Unlock(); return string(l.out) }

// ctx is a wait.Context whose deadlines are real.
type ctx struct{ ch chan struct{} }

func newCtx() *ctx                            { return &ctx{make(chan struct{}, 1)} }
func (c *ctx) Listener() waiter.EventListener { return c }
func (c *ctx) NotifyEvent(_ waiter.EventMask) { c.wake() }
func (c *ctx) wake() {
	select {
	case c.ch <- struct{}{}:
	default:
	}
}
func (c *ctx) Block(deadline int64, _ wait.Kind) wait.Result {
	if deadline == hal.NoDeadline {
		<-c.ch
		return wait.Ready
	}
	select {
	case <-c.ch:
		return wait.Ready
	case <-time.After(time.Duration(deadline - now())):
		return wait.Timeout
	}
}

var began = time.Now()

func now() int64 { return int64(time.Since(began)) }

func terminal() (*TTY, *line, *file) {
	l := &line{room: -1}
	h := &Host{Now: now}
	t := h.NewConsole(l, 0x440)
	t.t.lflag &^= unix.ECHO
	return t, l, t.Open(nil, false).(*file)
}

func (f *file) change(do func(t *termios)) {
	f.t.mu.Lock()
	n := f.t.t
	f.t.mu.Unlock()
	do(&n)
	f.t.set(n, false)
}

func get1(t *testing.T, f *file, n int) (string, error) {
	t.Helper()
	b := make([]byte, n)
	q := mm.KernelIO(b)
	m, err := f.Read(newCtx(), nil, &q, 0)
	return string(b[:m]), err
}

func put1(f *file, s string) (int, error) {
	q := mm.KernelIO([]byte(s))
	return f.Write(newCtx(), nil, &q, 0)
}

func TestLinesAreEditedAndReadOneByOne(t *testing.T) {
	tty, _, f := terminal()
	for _, c := range []struct{ typed, read string }{
		{"abc\x7fd\r", "abd\n"},          // ERASE, and ICRNL
		{"gone\x15kept\n", "kept\n"},     // KILL
		{"no newline\x04", "no newline"}, // EOF ends a line that is not empty
		{"\x04", ""},                     // and is an end of file else
	} {
		tty.Receive([]byte(c.typed))
		if got, err := get1(t, f, 100); got != c.read || err != nil {
			t.Errorf("%q is read as %q, %v", c.typed, got, err)
		}
	}
	tty.Receive([]byte("one\ntwo\nhalf"))
	for _, want := range []string{"on", "e\n", "two\n"} {
		if got, err := get1(t, f, len(want)); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if got, err := get1(t, f, 10); err != unix.EAGAIN {
		t.Errorf("half a line is read: %q, %v", got, err)
	}
}

func TestNoInputIsKeptBeyondItsBounds(t *testing.T) {
	tty, _, f := terminal()
	tty.Receive([]byte(strings.Repeat("x", 2*bufSize) + "\n"))
	if n := tty.waiting(); n != bufSize {
		t.Errorf("a line of %d bytes", n)
	}
	for range 100 {
		tty.Receive([]byte(strings.Repeat("y", 1000) + "\n"))
	}
	if n := len(tty.in); n > maxIn {
		t.Errorf("%d bytes are kept", n)
	}
	f.change(func(m *termios) { m.lflag &^= unix.ICANON })
	tty.Receive(make([]byte, 2*maxIn))
	if n := len(tty.in); n > maxIn {
		t.Errorf("%d bytes are kept without lines", n)
	}
}

// A slave whose master closes between the look whether it may be opened and the opening is hung
// up on like those that were open.
func TestASlaveThatOpensTooLateIsDead(t *testing.T) {
	p, err := (&Host{Now: now}).NewPair(unix.Mkdev(136, 0))
	if err != nil {
		t.Fatal(err)
	}
	freed := 0
	m := p.Master(nil, nil, func() {}, func() { freed++ })
	p.lockedOpen = false
	if err := p.MayOpen(); err != nil {
		t.Fatal(err)
	}
	m.Release(nil)
	f := p.slave.Open(nil, false)
	q := mm.KernelIO(make([]byte, 10))
	if n, err := f.Read(newCtx(), nil, &q, 0); n != 0 || err != nil {
		t.Errorf("it reads %d, %v", n, err)
	}
	if n, err := f.Write(newCtx(), nil, &q, 0); err != unix.EIO {
		t.Errorf("it writes %d, %v", n, err)
	}
	if f.Readiness(waiter.EventHUp) == 0 {
		t.Error("it does not say so")
	}
	if f.Release(nil); freed != 1 {
		t.Errorf("the pair was given back %d times", freed)
	}
}

// Keys that TCXONC and TIOCSTI put in wait like what the master writes, within its bound.
func TestAFullPairTakesNoMoreKeys(t *testing.T) {
	p, err := (&Host{Now: now}).NewPair(unix.Mkdev(136, 0))
	if err != nil {
		t.Fatal(err)
	}
	p.slave.t.lflag &^= unix.ECHO
	m := p.Master(nil, nil, func() {}, func() {}).(*master)
	write := func(s string) (int, error) {
		q := mm.KernelIO([]byte(s))
		return m.Write(newCtx(), nil, &q, 0)
	}
	_, err = write("\n") // with a whole line waiting, the rest waits in front of the line discipline
	for err == nil {
		_, err = write(strings.Repeat("x", 1000))
	}
	if err != unix.EAGAIN || len(p.slave.in) != maxPtyIn {
		t.Fatalf("%d bytes wait, then %v", len(p.slave.in), err)
	}
	for range 10 {
		p.slave.Receive([]byte("x")) // TIOCSTI
		for _, how := range []uint64{unix.TCIOFF, unix.TCION} {
			if err := p.holdMaster(how); err != nil {
				t.Error(err)
			}
		}
	}
	if n := len(p.slave.in); n != maxPtyIn {
		t.Errorf("%d bytes wait", n)
	}
	if n, err := write("x"); n != 0 || err != unix.EAGAIN {
		t.Errorf("a write is %d, %v", n, err)
	}
	if m.Readiness(waiter.WritableEvents) != 0 || p.slave.InputRoom() != 0 {
		t.Error("there is room for more")
	}
}

func TestOutputIsHeldByTCOOFFAndByTheStopCharacter(t *testing.T) {
	tty, l, f := terminal()
	for _, c := range []struct {
		name     string
		off, on  func()
		notByKey bool
	}{
		{"TCXONC", func() { tty.hold(unix.TCOOFF) }, func() { tty.hold(unix.TCOON) }, true},
		{"^S", func() { tty.Receive([]byte{19}) }, func() { tty.Receive([]byte{17}) }, false},
	} {
		woken := newCtx()
		var e waiter.Entry
		e.Init(woken.Listener(), waiter.WritableEvents)
		f.EventRegister(&e)
		c.off()
		select {
		case <-woken.ch:
		default:
		}
		if n, err := put1(f, c.name); n != 0 || err != unix.EAGAIN || f.Readiness(waiter.WritableEvents) != 0 {
			t.Errorf("%s: %d bytes, %v, ready %v", c.name, n, err, f.Readiness(waiter.WritableEvents))
		}
		if c.notByKey {
			tty.Receive([]byte{17}) // the start character does not undo TCOOFF
			if f.Readiness(waiter.WritableEvents) != 0 {
				t.Error("^Q undid TCOOFF")
			}
		}
		c.on()
		select {
		case <-woken.ch:
		case <-time.After(time.Second):
			t.Errorf("%s: writers are not woken", c.name)
		}
		f.EventUnregister(&e)
		if n, err := put1(f, c.name); n != len(c.name) || err != nil || !strings.HasSuffix(l.text(), c.name) {
			t.Errorf("%s: %d bytes, %v", c.name, n, err)
		}
	}
	if err := tty.hold(4); err != unix.EINVAL {
		t.Errorf("TCXONC 4: %v", err)
	}
	// Without IXON no key could start the output again.
	tty.Receive([]byte{19})
	f.change(func(m *termios) { m.iflag &^= unix.IXON })
	if n, _ := put1(f, "x"); n != 1 {
		t.Error("output is held for good")
	}
}

func TestAWriteThatFitsInPartIsContinuedAtTheRightByte(t *testing.T) {
	_, l, f := terminal()
	want := strings.Repeat("line\r\n", 50)
	src := strings.Repeat("line\n", 50)
	for step := 0; len(src) > 0; step++ {
		l.room = step % 4
		n, err := put1(f, src)
		if err != nil && (err != unix.EAGAIN || n != 0) {
			t.Fatal(n, err)
		}
		src = src[n:]
		if step > 2000 {
			t.Fatal("no end")
		}
	}
	if l.text() != want {
		t.Errorf("%q", l.text())
	}
}

// The four cases of termios(3), and what poll says of them.
func TestReadsWithoutLinesFollowVMINAndVTIME(t *testing.T) {
	const tick = 100 * time.Millisecond
	for _, c := range []struct {
		name        string
		vmin, vtime uint8
		before      string
		later       string // typed one byte each 50 ms
		n           int
		want        string
		least, most time.Duration
	}{
		{"polling read", 0, 0, "", "a", 10, "", 0, tick},
		{"polling read with input", 0, 0, "ab", "", 10, "ab", 0, tick},
		{"timed read, nothing", 0, 2, "", "", 10, "", 2 * tick, 20 * tick},
		{"timed read, one byte ends it", 0, 30, "", "a", 10, "a", 0, 20 * tick},
		{"blocking read", 3, 0, "a", "bc", 10, "abc", 0, 20 * tick},
		{"blocking read, fewer asked for", 3, 0, "abc", "", 2, "ab", 0, tick},
		{"interbyte timer", 9, 2, "a", "bc", 10, "abc", 3 * tick, 20 * tick},
		{"interbyte timer starts with the first byte", 2, 1, "", "a", 10, "a", tick, 20 * tick},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tty, _, f := terminal()
			f.change(func(m *termios) {
				m.lflag &^= unix.ICANON
				m.cc[unix.VMIN], m.cc[unix.VTIME] = c.vmin, c.vtime
			})
			tty.Receive([]byte(c.before))
			stop := make(chan struct{})
			go func() {
				defer close(stop)
				for i := range c.later {
					time.Sleep(50 * time.Millisecond)
					tty.Receive([]byte{c.later[i]})
				}
			}()
			start := time.Now()
			got, err := get1(t, f, c.n)
			d := time.Since(start)
			if got != c.want || err != nil || d < c.least || d > c.most {
				t.Errorf("%q, %v after %s", got, err, d)
			}
			<-stop
		})
	}
}

// proc is a process for the tests of sessions.
type proc struct {
	pid, pgid, sid     int32
	tty                *TTY
	admin, ign, orphan bool
}

func (p *proc) PID() int32    { return p.pid }
func (p *proc) PGID() int32   { return p.pgid }
func (p *proc) SID() int32    { return p.sid }
func (p *proc) TTY() *TTY     { return p.tty }
func (p *proc) SetTTY(t *TTY) { p.tty = t }
func (p *proc) Can(int) bool  { return p.admin }
func (p *proc) Install(*vfs.File, bool) (int32, error) {
	return -1, unix.EMFILE
}
func (p *proc) Ignores(unix.Signal) bool { return p.ign }
func (p *proc) Orphaned() bool           { return p.orphan }

// world is Jobs over a list; self makes the calls.
type world struct {
	all  []*proc
	self *proc
	sent []unix.Signal
	to   []int32
}

func (w *world) Caller(wait.Context) Caller { return w.self }
func (w *world) SessionOf(pgrp int32) int32 {
	for _, p := range w.all {
		if p.pgid == pgrp {
			return p.sid
		}
	}
	return 0
}
func (w *world) Signal(pgrp int32, sig unix.Signal) {
	w.sent, w.to = append(w.sent, sig), append(w.to, pgrp)
}
func (w *world) Leave(sid int32) {
	for _, p := range w.all {
		if p.sid == sid {
			p.tty = nil
		}
	}
}

func (w *world) HangUp(sid, pgrp int32, t *TTY) {
	for _, p := range w.all {
		if p.sid == sid && p.tty == t {
			p.tty = nil
		}
		if p.pid == sid {
			w.sent, w.to = append(w.sent, unix.SIGHUP, unix.SIGCONT), append(w.to, p.pgid, p.pgid)
		}
	}
}

func sessions() (*TTY, *file, *world) {
	tty, _, f := terminal()
	w := &world{all: []*proc{
		{pid: 1, pgid: 1, sid: 1, tty: tty}, {pid: 2, pgid: 2, sid: 1, tty: tty}, {pid: 3, pgid: 3, sid: 3},
		{pid: 4, pgid: 3, sid: 3}, {pid: 5, pgid: 5, sid: 5, admin: true},
	}}
	w.self = w.all[0]
	tty.host.Jobs = w
	return tty, f, w
}

func TestOnlyALeaderWithoutATerminalMayTakeAFreeOne(t *testing.T) {
	for _, c := range []struct {
		who  int
		free bool
		arg  uint64
		want error
	}{
		{0, false, 0, nil},        // has it already
		{1, false, 0, unix.EPERM}, // no leader
		{2, false, 0, unix.EPERM}, // another session's
		{2, false, 1, unix.EPERM}, // stealing needs CAP_SYS_ADMIN
		{4, false, 0, unix.EPERM}, // and the argument
		{4, false, 1, nil},
		{2, true, 0, nil},
		{3, true, 0, unix.EPERM},
	} {
		tty, f, w := sessions()
		if c.free {
			tty.sid, tty.pgrp = 0, 0
		}
		w.self = w.all[c.who]
		if _, err := f.Ioctl(nil, nil, nil, unix.TIOCSCTTY, c.arg); err != c.want && !(err == nil && c.want == nil) {
			t.Errorf("%+v: %v", c, err)
		}
		if c.want == nil && (tty.sid != w.self.sid || w.self.tty != tty) {
			t.Errorf("%+v: the session is %d", c, tty.sid)
		}
		if c.who == 4 && c.want == nil && w.all[1].tty != nil {
			t.Error("the session that lost the terminal still has it")
		}
	}
}

func TestALeaderThatLetsGoHangsUpOnTheForeground(t *testing.T) {
	tty, f, w := sessions()
	tty.pgrp = 2
	w.self = w.all[1]
	if _, err := f.Ioctl(nil, nil, nil, unix.TIOCNOTTY, 0); err != nil || len(w.sent) != 0 || tty.sid != 1 || w.all[1].tty != nil {
		t.Errorf("a member: %v, signals %v, session %d", err, w.sent, tty.sid)
	}
	if _, err := f.Ioctl(nil, nil, nil, unix.TIOCNOTTY, 0); err != unix.ENOTTY {
		t.Errorf("twice: %v", err)
	}
	w.self = w.all[0]
	if _, err := f.Ioctl(nil, nil, nil, unix.TIOCNOTTY, 0); err != nil {
		t.Error(err)
	}
	if !slices.Equal(w.sent, []unix.Signal{unix.SIGHUP, unix.SIGCONT}) || !slices.Equal(w.to, []int32{2, 2}) || tty.sid != 0 || w.self.tty != nil {
		t.Errorf("signals %v to %v, session %d", w.sent, w.to, tty.sid)
	}
}

func TestABackgroundGroupIsKeptFromTheTerminal(t *testing.T) {
	for _, c := range []struct {
		ign, orphan bool
		read, write error
		sent        int
	}{
		{false, false, wait.ErrRestart, wait.ErrRestart, 2},
		{true, false, unix.EIO, nil, 0},
		{false, true, unix.EIO, unix.EIO, 0},
	} {
		tty, f, w := sessions()
		w.self = w.all[1]
		w.self.ign, w.self.orphan = c.ign, c.orphan
		tty.t.lflag |= unix.TOSTOP
		tty.Receive([]byte("x\n"))
		_, rerr := get1(t, f, 5)
		_, werr := put1(f, "y")
		if rerr != c.read || werr != c.write && !(werr == nil && c.write == nil) || len(w.sent) != c.sent {
			t.Errorf("%+v: read %v, write %v, signals %v", c, rerr, werr, w.sent)
		}
		if c.sent > 0 && (w.sent[0] != unix.SIGTTIN || w.sent[1] != unix.SIGTTOU || w.to[0] != 2) {
			t.Errorf("signals %v to %v", w.sent, w.to)
		}
		// The console itself is anybody's.
		con := tty.Open(nil, true).(*file)
		if got, err := get1(t, con, 5); got != "x\n" || err != nil {
			t.Errorf("console: %q, %v", got, err)
		}
	}
}

func TestInterruptKeysSignalTheForegroundGroup(t *testing.T) {
	tty, f, w := sessions()
	tty.pgrp, w.self = 2, w.all[1]
	tty.Receive([]byte("half\x03"))
	tty.Receive([]byte{28})
	if !slices.Equal(w.sent, []unix.Signal{unix.SIGINT, unix.SIGQUIT}) || w.to[0] != 2 {
		t.Errorf("%v to %v", w.sent, w.to)
	}
	tty.Receive([]byte("line\n"))
	if got, _ := get1(t, f, 20); got != "line\n" {
		t.Errorf("input before an interrupt is kept: %q", got)
	}
}

func TestTheTerminalOfNobodyIsNotThere(t *testing.T) {
	tty, _, w := sessions()
	if got, err := tty.host.Controlling(nil); got != tty || err != nil {
		t.Errorf("the leader's: %v", err)
	}
	w.self = w.all[2]
	if _, err := tty.host.Controlling(nil); err != unix.ENXIO {
		t.Errorf("another session's: %v", err)
	}
	tty.excl = true
	if err := tty.MayOpen(nil, unix.O_RDWR, false); err != unix.EBUSY {
		t.Errorf("TIOCEXCL: %v", err)
	}
	tty.excl, tty.sid = false, 0
	for _, c := range []struct {
		flags  uint32
		noctty bool
		want   int32
	}{{unix.O_RDWR, true, 0}, {unix.O_RDWR | unix.O_NOCTTY, false, 0}, {unix.O_WRONLY, false, 0}, {unix.O_RDWR, false, 3}} {
		if err := tty.MayOpen(nil, c.flags, c.noctty); err != nil || tty.sid != c.want {
			t.Errorf("open %#x: %v, session %d", c.flags, err, tty.sid)
		}
	}
}

func TestAHangUpEndsEveryDescriptionButTheConsoles(t *testing.T) {
	tty, f, w := sessions()
	con := tty.Open(nil, true).(*file)
	tty.Receive([]byte("typed before\n"))
	tty.LeaderEnded(1)
	if n, err := put1(f, "x"); n != 0 || err != unix.EIO {
		t.Errorf("a write to a dead description: %d, %v", n, err)
	}
	if got, err := get1(t, f, 10); got != "" || err != nil {
		t.Errorf("a read: %q, %v", got, err)
	}
	if _, err := f.Ioctl(nil, nil, nil, unix.TCGETS, 0); err != unix.EIO {
		t.Errorf("TCGETS: %v", err)
	}
	if _, err := f.Ioctl(nil, nil, nil, unix.TIOCSPGRP, 0); err != unix.ENOTTY {
		t.Errorf("TIOCSPGRP: %v", err)
	}
	if ev := f.Readiness(^waiter.EventMask(0)); ev&waiter.EventHUp == 0 || ev&waiterBoth != waiterBoth {
		t.Errorf("poll: %#x", ev)
	}
	if n, err := put1(con, "x"); n != 1 || err != nil {
		t.Errorf("the console: %d, %v", n, err)
	}
	if tty.sid != 0 || w.all[0].tty != nil || !slices.Contains(w.sent, unix.SIGHUP) {
		t.Errorf("session %d, signals %v", tty.sid, w.sent)
	}
}
