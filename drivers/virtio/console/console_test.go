package console

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/drivers/virtio"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
)

// host is the other end of a console device.
type host struct {
	*virtiotest.Device
	mu    sync.Mutex
	in    map[int][]*virtiotest.Chain // receive buffers by queue
	out   map[int][]byte
	ctl   [][3]uint32
	stuck bool
	held  []*virtiotest.Chain
}

func (h *host) handle(q int, c *virtiotest.Chain) (uint32, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if q%2 == 0 {
		h.in[q] = append(h.in[q], c)
		return 0, false
	}
	b := c.Bytes()
	if q == 3 {
		le := binary.LittleEndian
		id, ev, v := le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:])
		h.ctl = append(h.ctl, [3]uint32{id, uint32(ev), uint32(v)})
		switch {
		case ev == evDeviceReady:
			go h.control(0, evPortAdd, 1, "")
			go h.control(5, evPortAdd, 1, "")
			go h.control(99, evPortAdd, 1, "") // a port that was never offered
		case ev == evPortReady && id == 0:
			go h.control(0, evConsolePort, 1, "")
		case ev == evPortReady && id == 5:
			go h.control(5, evPortName, 1, ControlPort+"\x00")
			go h.control(5, evPortOpen, 1, "")
		}
		return 0, true
	}
	if h.stuck {
		h.held = append(h.held, c)
		return 0, false
	}
	h.out[q] = append(h.out[q], b...)
	return 0, true
}

func (h *host) send(q int, b []byte) {
	for {
		h.mu.Lock()
		if len(h.in[q]) > 0 {
			c := h.in[q][0]
			h.in[q] = h.in[q][1:]
			h.mu.Unlock()
			c.Complete(c.Put(0, b))
			return
		}
		h.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

func (h *host) control(id uint32, ev, v uint16, name string) {
	b := binary.LittleEndian.AppendUint32(nil, id)
	b = binary.LittleEndian.AppendUint16(b, ev)
	b = binary.LittleEndian.AppendUint16(b, v)
	h.send(2, append(b, name...))
}

func newConsole(t testing.TB, feat uint64, version uint32) (*host, *Console) {
	t.Helper()
	m := fake.New(256)
	h := &host{in: map[int][]*virtiotest.Chain{}, out: map[int][]byte{}}
	h.Device = &virtiotest.Device{M: m, Kind: 3, Feat: feat, Queues: 64, MaxSize: 64,
		Config: []byte{80, 0, 25, 0, 31, 0, 0, 0, 0, 0, 0, 0}, Handle: h.handle}
	h.MMIO(0xfeb00000, 5, version)
	tr, err := virtio.OpenMMIO(m, 0xfeb00000, 0x200, 5, hal.GSILevel)
	if err != nil {
		t.Fatal(err)
	}
	before := m.FreePages()
	c, err := Open(m, tr, "virtio-console0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if used := before - m.FreePages(); version == 2 && used > 16 {
		t.Errorf("31 ports take %d pages", used)
	}
	return h, c
}

func TestTheControlPortIsFoundByNameAndCarriesLines(t *testing.T) {
	h, c := newConsole(t, featMultiport|virtiotest.Version1|virtiotest.EventIdx, 2)
	ports := make(chan *Port, 10)
	c.OnPort(func(p *Port) { ports <- p })
	var ctl *Port
	for ctl == nil {
		select {
		case p := <-ports:
			if p.Name() == ControlPort {
				ctl = p
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no port of that name")
		}
	}
	go h.send(12, []byte("sto")) // before anybody listens
	time.Sleep(5 * time.Millisecond)
	got := make(chan string, 100)
	ctl.SetReceiver(func(b []byte) { got <- string(b) })
	go func() { time.Sleep(5 * time.Millisecond); h.send(12, []byte("p\n")) }()
	var text string
	for !strings.HasSuffix(text, "stop\n") {
		select {
		case s := <-got:
			text += s
		case <-time.After(5 * time.Second):
			t.Fatalf("received %q", text)
		}
	}
	long := bytes.Repeat([]byte("exit 0\n"), 1000)
	room := make(chan bool, 100)
	ctl.OnWritable(func() { room <- true })
	for rest := long; len(rest) > 0; {
		n := ctl.Write(rest)
		if rest = rest[n:]; len(rest) > 0 {
			select {
			case <-room:
			case <-time.After(5 * time.Second):
				t.Fatal("never writable again")
			}
		}
	}
	if !ctl.Drain(1000, func() { time.Sleep(time.Millisecond) }) {
		t.Error("not drained")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !bytes.Equal(h.out[13], long) {
		t.Errorf("%d bytes arrived of %d", len(h.out[13]), len(long))
	}
	if !ctl.Open() {
		t.Error("the host's end is open")
	}
}

func TestAHostThatDoesNotReadHoldsNobody(t *testing.T) {
	h, c := newConsole(t, virtiotest.Version1, 2) // one port, no control queues
	h.mu.Lock()
	h.stuck = true
	h.mu.Unlock()
	ports := make(chan *Port, 1)
	c.OnPort(func(p *Port) { ports <- p })
	p := <-ports
	if !p.IsConsole() {
		t.Error("the only port is the console")
	}
	if n := p.Write(make([]byte, 1<<20)); n != queueLen*bufLen {
		t.Errorf("%d bytes were taken", n)
	}
	if p.Drain(10, func() {}) {
		t.Error("drained into a host that does not read")
	}
}

// A writer that finds all buffers used and the device broken gives up.
func TestAWriterEndsWithItsDevice(t *testing.T) {
	for name, bad := range map[string]struct {
		id    uint32
		index uint16
	}{"a request that it did not have": {9999, 1}, "too many requests": {0, 1000}} {
		t.Run(name, func(t *testing.T) {
			h := &virtiotest.Hostile{M: fake.New(256), Kind: 3, Feat: virtiotest.Version1, Answers: bytes.Repeat([]byte{0xff}, 64)}
			c, err := Open(h.M, h, "virtio-console0", nil)
			if err != nil {
				t.Fatal(err)
			}
			for c.serve() {
			}
			p := c.ports[0]
			if n := p.Write(make([]byte, queueLen*bufLen)); n != queueLen*bufLen {
				t.Fatalf("%d bytes were taken", n)
			}
			h.Push(1, bad.id, 0, bad.index)
			done := make(chan int)
			go func() { done <- p.Write([]byte("more")) }()
			select {
			case n := <-done:
				if n != 0 || c.dev.Err() == nil {
					t.Errorf("%d bytes were taken: %v", n, c.dev.Err())
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the writer does not come back")
			}
		})
	}
}

func TestLegacyDevicesHaveFewerPorts(t *testing.T) {
	_, c := newConsole(t, featMultiport, 1)
	if len(c.ports) != maxPortsLegacy {
		t.Errorf("%d ports", len(c.ports))
	}
}
