package tty

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	waiterBoth = waiter.ReadableEvents | waiter.WritableEvents
	// bufSize is N_TTY_BUF_SIZE: a line of 4095 bytes and its end fit.
	bufSize = 4096
	bufMask = bufSize - 1
	maxEcho = 4096
	// disabled is _POSIX_VDISABLE: no key. In the buffer, with its mark, it is an end of
	// file.
	disabled = 0
)

// disc is the state of the line discipline: a ring of what was typed. head, canon and
// tail count bytes from the beginning of time; between tail and canon lie whole lines,
// between canon and head the one being edited. A mark is set for the byte that ends a line.
type disc struct {
	buf               []byte // made when the first byte comes
	marks             [bufSize / 64]uint64
	head, canon, tail uint
	echo              []byte // echo that has not gone out
	column            int    // of the cursor, as far as the output tells
	canonColumn       int    // where the line being edited began
	lnext             bool   // the next character is taken as it is
	erasing           bool   // between ECHOPRT's \ and /
}

// reset throws away what was typed.
func (d *disc) reset() {
	d.tail, d.canon = d.head, d.head
	d.marks = [bufSize / 64]uint64{}
	d.lnext, d.erasing = false, false
}

// relimit makes what is there fit a change of ICANON: one line, or no lines.
func (d *disc) relimit(lines bool) {
	d.marks = [bufSize / 64]uint64{}
	if !lines || d.head == d.tail {
		d.canon = d.tail
	} else {
		d.mark(d.head - 1)
		d.canon = d.head
	}
	d.erasing, d.lnext = false, false
}

func (d *disc) at(i uint) byte     { return d.buf[i&bufMask] }
func (d *disc) marked(i uint) bool { i &= bufMask; return d.marks[i/64]>>(i%64)&1 != 0 }
func (d *disc) mark(i uint)        { i &= bufMask; d.marks[i/64] |= 1 << (i % 64) }
func (d *disc) unmark(i uint)      { i &= bufMask; d.marks[i/64] &^= 1 << (i % 64) }

func (d *disc) put(c byte) {
	if d.buf == nil {
		d.buf = make([]byte, bufSize)
	}
	d.buf[d.head&bufMask] = c
	d.head++
}

func (t *TTY) lines() bool { return t.t.lflag&unix.ICANON != 0 && t.t.lflag&extProc == 0 }

// feed moves arrived input through the line discipline while there is room. Called with
// mu held.
func (t *TTY) feed() {
	if len(t.in) == 0 {
		return
	}
	d := &t.ld
	done := 0
	for _, c := range t.in {
		room := bufSize - int(d.head-d.tail)
		if t.t.iflag&unix.PARMRK != 0 {
			room = (room + 2) / 3
		}
		if room--; room <= 0 {
			// A line that is too long loses its last byte, so that its end is seen; else
			// the rest waits for a reader.
			if t.t.lflag&unix.ICANON == 0 || d.canon != d.tail {
				break
			}
			if room < 0 {
				d.head--
			}
		}
		t.input(c)
		done++
	}
	t.in = t.in[:copy(t.in, t.in[done:])]
	if len(t.in) == 0 {
		t.in = nil
	}
	t.flushEcho()
	if done == 0 {
		return
	}
	t.wakeMaster |= waiter.WritableEvents
	if !t.lines() {
		t.wake |= waiter.ReadableEvents
	}
}

// key says whether c is the key of a function.
func (t *TTY) key(c byte, k int) bool { return c != disabled && c == t.t.cc[k] }

// input serves one character.
func (t *TTY) input(c byte) {
	d, m := &t.ld, &t.t
	if m.iflag&unix.ISTRIP != 0 {
		c &= 0x7f
	}
	if m.iflag&unix.IUCLC != 0 && m.lflag&unix.IEXTEN != 0 && c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	switch {
	case d.lnext:
		d.lnext = false
		t.keep(c)
		return
	case m.lflag&extProc != 0:
		d.put(c)
		return
	case m.iflag&unix.IXON != 0 && t.key(c, unix.VSTART):
		t.start()
		return
	case m.iflag&unix.IXON != 0 && t.key(c, unix.VSTOP):
		t.stop()
		return
	}
	if m.lflag&unix.ISIG != 0 {
		for _, k := range signalKeys {
			if t.key(c, k.key) {
				t.interrupt(c, k.sig)
				return
			}
		}
	}
	if m.iflag&unix.IXON != 0 && m.iflag&unix.IXANY != 0 {
		t.start()
	}
	switch {
	case c == '\r' && m.iflag&unix.IGNCR != 0:
		return
	case c == '\r' && m.iflag&unix.ICRNL != 0:
		c = '\n'
	case c == '\n' && m.iflag&unix.INLCR != 0:
		c = '\r'
	default:
		if m.lflag&unix.ICANON == 0 || !t.edit(c) {
			t.keep(c)
		}
		return
	}
	// A converted end of line: without lines it is echoed as it stands.
	if m.lflag&unix.ICANON != 0 && t.edit(c) {
		return
	}
	if m.lflag&unix.ECHO != 0 && c == '\n' {
		t.finishErasing()
		t.echoRaw('\n')
		d.put(c)
		return
	}
	t.keep(c)
}

var signalKeys = [...]struct {
	key int
	sig unix.Signal
}{{unix.VINTR, unix.SIGINT}, {unix.VQUIT, unix.SIGQUIT}, {unix.VSUSP, unix.SIGTSTP}}

// interrupt is one of the keys that signal the foreground group.
func (t *TTY) interrupt(c byte, sig unix.Signal) {
	t.signalLocked(sig)
	if t.t.lflag&unix.NOFLSH == 0 {
		t.ld.echo = nil
		t.drv.flush()
		t.ld.reset()
		t.packet(unix.TIOCPKT_FLUSHREAD, 0)
		if t.pair != nil {
			t.packet(unix.TIOCPKT_FLUSHWRITE, 0)
		}
	}
	if t.t.iflag&unix.IXON != 0 {
		t.start()
	}
	if t.t.lflag&unix.ECHO != 0 {
		t.echoChar(c)
	}
}

// keep echoes a character and puts it into the buffer.
func (t *TTY) keep(c byte) {
	if t.t.lflag&unix.ECHO != 0 {
		t.finishErasing()
		if t.ld.canon == t.ld.head {
			t.ld.canonColumn = t.ld.column
		}
		t.echoChar(c)
	}
	if c == 0xff && t.t.iflag&unix.PARMRK != 0 {
		if d := &t.ld; d.head-d.tail == bufSize-1 {
			d.head-- // as in feed: both must fit, or the line's first byte is lost
		}
		t.ld.put(c)
	}
	t.ld.put(c)
}

// edit is canonical input; false: c is an ordinary character.
func (t *TTY) edit(c byte) bool {
	d, m := &t.ld, &t.t
	ext, echo := m.lflag&unix.IEXTEN != 0, m.lflag&unix.ECHO != 0
	switch {
	case t.key(c, unix.VERASE), t.key(c, unix.VKILL), ext && t.key(c, unix.VWERASE):
		t.erase(c)
	case ext && t.key(c, unix.VLNEXT):
		d.lnext = true
		if echo {
			t.finishErasing()
			if m.lflag&unix.ECHOCTL != 0 {
				t.echoRaw('^')
				t.echoRaw('\b')
			}
		}
	case ext && echo && t.key(c, unix.VREPRINT):
		t.finishErasing()
		t.echoChar(c)
		t.echoRaw('\n')
		for i := d.canon; i != d.head; i++ {
			t.echoChar(d.at(i))
		}
	case c == '\n':
		if echo || m.lflag&unix.ECHONL != 0 {
			t.echoRaw('\n')
		}
		t.endLine(c)
	case t.key(c, unix.VEOF):
		t.endLine(disabled)
	case t.key(c, unix.VEOL), ext && t.key(c, unix.VEOL2):
		if echo {
			if d.canon == d.head {
				d.canonColumn = d.column
			}
			t.echoChar(c)
		}
		if c == 0xff && m.iflag&unix.PARMRK != 0 {
			d.put(c)
		}
		t.endLine(c)
	default:
		return false
	}
	return true
}

func (t *TTY) endLine(c byte) {
	d := &t.ld
	d.put(c)
	d.mark(d.head - 1)
	d.canon = d.head
	t.wake |= waiter.ReadableEvents
}

// erase is the keys that take back a character, a word or the line.
func (t *TTY) erase(c byte) {
	d, l := &t.ld, t.t.lflag
	if d.head == d.canon {
		return
	}
	echo := l&unix.ECHO != 0
	one, word := t.key(c, unix.VERASE), false
	if !one {
		word = t.key(c, unix.VWERASE) && t.t.lflag&unix.IEXTEN != 0
	}
	if !one && !word {
		if !echo {
			d.head = d.canon
			return
		}
		if l&unix.ECHOK == 0 || l&unix.ECHOKE == 0 || l&unix.ECHOE == 0 {
			d.head = d.canon
			t.finishErasing()
			t.echoChar(t.t.cc[unix.VKILL])
			if l&unix.ECHOK != 0 {
				t.echoRaw('\n')
			}
			return
		}
	}
	seen := false
	for d.head != d.canon {
		head := d.head - 1
		for t.continues(d.at(head)) && head != d.canon {
			head--
		}
		c := d.at(head)
		if t.continues(c) {
			break // half a character
		}
		if word {
			if alnum(c) {
				seen = true
			} else if seen {
				break
			}
		}
		n := d.head - head
		d.head = head
		if echo {
			t.echoErased(c, n, one)
		}
		if one {
			break
		}
	}
	if d.head == d.canon && echo {
		t.finishErasing()
	}
}

// echoErased shows that a character c of n bytes, which lies at head, has been taken back.
func (t *TTY) echoErased(c byte, n uint, one bool) {
	d, l := &t.ld, t.t.lflag
	switch {
	case l&unix.ECHOPRT != 0:
		if !d.erasing {
			t.echoRaw('\\')
			d.erasing = true
		}
		t.echoChar(c)
		for i := uint(1); i < n; i++ {
			t.echoRaw(d.at(d.head + i))
			d.column = max(d.column-1, 0)
		}
	case one && l&unix.ECHOE == 0:
		t.echoChar(t.t.cc[unix.VERASE])
	case c == '\t':
		t.eraseTab()
	default:
		if control(c) && l&unix.ECHOCTL != 0 {
			t.echoString("\b \b")
		}
		if !control(c) || l&unix.ECHOCTL != 0 {
			t.echoString("\b \b")
		}
	}
}

// eraseTab goes back over a tab: the columns since the tab before it, or since the line
// began, say how wide it was.
func (t *TTY) eraseTab() {
	d := &t.ld
	n, tab := 0, false
	for i := d.head; i != d.canon; {
		i--
		c := d.at(i)
		if c == '\t' {
			tab = true
			break
		}
		switch {
		case control(c):
			if t.t.lflag&unix.ECHOCTL != 0 {
				n += 2
			}
		case !t.continues(c):
			n++
		}
	}
	if !tab {
		n += d.canonColumn
	}
	for k := 8 - n&7; k > 0; k-- {
		t.queueEcho('\b')
		d.column = max(d.column-1, 0)
	}
}

func (t *TTY) finishErasing() {
	if t.ld.erasing {
		t.echoRaw('/')
		t.ld.erasing = false
	}
}

// continues says whether c goes on with a UTF-8 character.
func (t *TTY) continues(c byte) bool { return t.t.iflag&unix.IUTF8 != 0 && c&0xc0 == 0x80 }

func control(c byte) bool { return c < 32 || c == 127 }

// alnum is what makes a word for VWERASE, Latin 1's letters included.
func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0xc0 && c != 0xd7 && c != 0xf7
}

// echoChar echoes c, a control character as ^X with ECHOCTL.
func (t *TTY) echoChar(c byte) {
	if t.t.lflag&unix.ECHOCTL != 0 && control(c) && c != '\t' {
		t.queueEcho('^', c^0x40)
		t.ld.column += 2
		return
	}
	t.echoRaw(c)
}

func (t *TTY) echoString(s string) {
	for i := range len(s) {
		t.echoRaw(s[i])
	}
}

// echoRaw echoes c as if a program had written it.
func (t *TTY) echoRaw(c byte) {
	if t.t.oflag&unix.OPOST == 0 {
		t.queueEcho(c)
		return
	}
	var b [8]byte
	t.queueEcho(t.post(c, b[:0])...)
}

func (t *TTY) queueEcho(b ...byte) {
	if len(t.ld.echo)+len(b) <= maxEcho {
		t.ld.echo = append(t.ld.echo, b...)
	}
}

// flushEcho sends the echo that there is room for.
func (t *TTY) flushEcho() {
	d := &t.ld
	if len(d.echo) == 0 || t.stopped {
		return
	}
	n := t.drv.write(d.echo)
	if d.echo = d.echo[:copy(d.echo, d.echo[n:])]; len(d.echo) == 0 {
		d.echo = nil
	}
}

// post appends what OPOST makes of c, at most 8 bytes, and moves the column.
func (t *TTY) post(c byte, b []byte) []byte {
	d, o := &t.ld, t.t.oflag
	switch c {
	case '\n':
		if o&unix.ONLRET != 0 {
			d.column = 0
		}
		if o&unix.ONLCR != 0 {
			d.column, d.canonColumn = 0, 0
			return append(b, '\r', '\n')
		}
		d.canonColumn = d.column
	case '\r':
		if o&unix.ONOCR != 0 && d.column == 0 {
			return b
		}
		if o&unix.OCRNL != 0 {
			c = '\n'
			if o&unix.ONLRET != 0 {
				d.column, d.canonColumn = 0, 0
			}
			break
		}
		d.column, d.canonColumn = 0, 0
	case '\t':
		n := 8 - d.column&7
		d.column += n
		if o&unix.TABDLY == unix.XTABS {
			return append(b, "        "[:n]...)
		}
	case '\b':
		d.column = max(d.column-1, 0)
	default:
		if !control(c) {
			if o&unix.OLCUC != 0 && c >= 'a' && c <= 'z' {
				c -= 'a' - 'A'
			}
			if !t.continues(c) {
				d.column++
			}
		}
	}
	return append(b, c)
}

// output writes p to the driver with output processing, and returns the bytes of p that
// went out. What fits goes in one piece, so that nothing comes between a line and its end.
// Called with mu held.
func (t *TTY) output(p []byte) int {
	if t.stopped {
		return 0
	}
	if t.t.oflag&unix.OPOST == 0 {
		return t.drv.write(p)
	}
	buf := chunks.Get().(*[bufSize]byte)
	defer chunks.Put(buf)
	done := 0
	for done < len(p) {
		n, b := t.process(p[done:], buf[:0:min(t.drv.room(), bufSize)])
		if n == 0 {
			break
		}
		t.drv.write(b)
		done += n
	}
	return done
}

// process appends what output processing makes of p to b, as far as b has room, and says
// how many bytes of p that were.
func (t *TTY) process(p, b []byte) (done int, _ []byte) {
	for done < len(p) {
		end := done
		for end < len(p) && end-done < cap(b)-len(b) && !control(p[end]) && t.t.oflag&unix.OLCUC == 0 {
			end++
		}
		if end > done {
			if t.t.iflag&unix.IUTF8 == 0 {
				t.ld.column += end - done
			} else {
				for _, c := range p[done:end] {
					if c&0xc0 != 0x80 {
						t.ld.column++
					}
				}
			}
			b = append(b, p[done:end]...)
			done = end
			continue
		}
		var one [8]byte
		column, canon := t.ld.column, t.ld.canonColumn
		q := t.post(p[done], one[:0])
		if len(q) > cap(b)-len(b) {
			t.ld.column, t.ld.canonColumn = column, canon
			break
		}
		b = append(b, q...)
		done++
	}
	return done, b
}

// flushInput is TCIFLUSH.
func (t *TTY) flushInput() {
	t.in = nil
	t.ld.reset()
	t.packet(unix.TIOCPKT_FLUSHREAD, 0)
	t.wakeMaster |= waiter.WritableEvents
}

// flushOutput is TCOFLUSH.
func (t *TTY) flushOutput() {
	t.drv.flush()
	if t.pair != nil {
		t.packet(unix.TIOCPKT_FLUSHWRITE, 0)
	}
	t.wake |= waiter.WritableEvents
}

// readable says whether a read has something to give; poll asks for VMIN bytes where no
// timer runs.
func (t *TTY) readable(poll bool) bool {
	d := &t.ld
	if t.lines() {
		return d.canon != d.tail
	}
	n := 1
	if poll && t.t.cc[unix.VTIME] == 0 {
		n = max(1, int(t.t.cc[unix.VMIN]))
	}
	return int(d.head-d.tail) >= n
}

// waiting is FIONREAD: bytes of whole lines without ends of file, or all.
func (t *TTY) waiting() int {
	d := &t.ld
	if !t.lines() {
		return int(d.head - d.tail)
	}
	n := 0
	for i := d.tail; i != d.canon; i++ {
		if !d.marked(i) || d.at(i) != disabled {
			n++
		}
	}
	return n
}

// take moves input to b: of at most one line, whose end done tells. An end of file right
// behind what fits goes with it.
func (t *TTY) take(b []byte) (n int, done bool) {
	d := &t.ld
	if !t.lines() {
		for n < len(b) && d.tail != d.head {
			k := copy(b[n:], d.buf[d.tail&bufMask:min(d.tail&bufMask+(d.head-d.tail), bufSize)])
			n += k
			d.tail += uint(k)
		}
		if n == 1 && t.t.lflag&(unix.ICANON|extProc) == unix.ICANON|extProc && t.key(b[0], unix.VEOF) && d.tail == d.head {
			n, done = 0, true // a single end-of-file key
		}
		t.taken()
		return n, done
	}
	for d.tail != d.canon {
		end, c := d.marked(d.tail), d.at(d.tail)
		switch {
		case end && c == disabled:
		case n == len(b):
			return n, false
		default:
			b[n] = c
			n++
		}
		if end {
			d.unmark(d.tail)
			done = true
		}
		d.tail++
		if end {
			break
		}
	}
	t.taken()
	return n, done
}

// taken lets in what waited for room.
func (t *TTY) taken() {
	if d := &t.ld; d.head == d.tail && len(t.in) == 0 && t.pair != nil {
		d.buf = nil
	}
	t.feed()
}
