package net

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// segments counts the TCP segments that leave a card: all, and those without data.
type segments struct {
	mu        sync.Mutex
	all, bare int
	last      time.Time // when the last one without data left
}

func watch(d *pipeDev) *segments {
	c := new(segments)
	d.mu.Lock()
	d.lose = func(f []byte) bool {
		if n := plainSegment(f, true); n > 0 {
			c.mu.Lock()
			c.all++
			if n == tcpAt+int(header.TCP(f[tcpAt:]).DataOffset()) {
				c.bare++
				c.last = time.Now()
			}
			c.mu.Unlock()
		}
		return false
	}
	d.mu.Unlock()
	return c
}

func (c *segments) take() (all, bare int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, bare = c.all, c.bare
	c.all, c.bare = 0, 0
	return all, bare
}

// settle waits until a card has been silent for longer than an acknowledgement is
// delayed.
func (c *segments) settle() {
	for {
		c.take()
		time.Sleep(3 * time.Duration(delackTime))
		if n, _ := c.take(); n == 0 {
			return
		}
	}
}

func exchange(t *testing.T, srv, cli Socket, n int) {
	t.Helper()
	for range n {
		if err := write(t, cli, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		readFull(t, srv, 100)
		if err := write(t, srv, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		readFull(t, cli, 500)
	}
}

// conversation is a connection on which the server has answered before, at rest.
func conversation(t *testing.T) (srv, cli Socket, out *segments) {
	t.Helper()
	x, y, dx, _ := twoStacks(t, testRAM, true)
	srv, cli, _ = connected(t, x, y, in4(10, 0, 0, 1, 0))
	exchange(t, srv, cli, 3)
	out = watch(dx)
	out.settle()
	// Silence has ended the conversation: one exchange begins it again.
	exchange(t, srv, cli, 1)
	time.Sleep(3 * time.Duration(delackTime))
	out.take()
	return srv, cli, out
}

func TestAnAnswerCarriesTheAcknowledgement(t *testing.T) {
	srv, cli, out := conversation(t)
	const n = 50
	exchange(t, srv, cli, n)
	// A test machine may stall for longer than the delay, now and then.
	if all, bare := out.take(); all < n || bare > n/4 {
		t.Errorf("%d exchanges took %d segments, %d of them without data", n, all, bare)
	}
}

func TestAnAcknowledgementIsDelayedOnceAndForAMoment(t *testing.T) {
	srv, cli, out := conversation(t)
	start := time.Now()
	if err := write(t, cli, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	readFull(t, srv, 100)
	for deadline := start.Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		out.mu.Lock()
		bare, last := out.bare, out.last
		out.mu.Unlock()
		if bare > 0 {
			if d := last.Sub(start); d < time.Duration(delackTime)/2 {
				t.Errorf("acknowledged after %v", d)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never acknowledged")
		}
	}
	// Nobody answered, so the next one is not held back.
	if d := acknowledged(t, srv, cli, out, 1); d > time.Duration(delackTime)*3/4 {
		t.Errorf("acknowledged after %v, without an answer before", d)
	}
}

// acknowledged sends n segments that nobody answers and returns after how long the
// first acknowledgement left: the best of a few tries, since a test machine may stall.
func acknowledged(t *testing.T, srv, cli Socket, out *segments, n int) time.Duration {
	t.Helper()
	best := time.Hour
	for try := 0; try < 5 && best > time.Duration(delackTime)/2; try++ {
		if n > 1 {
			exchange(t, srv, cli, 2) // a conversation again
		}
		out.take()
		start := time.Now()
		for range n {
			if err := write(t, cli, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			readFull(t, srv, 100)
		}
		for {
			out.mu.Lock()
			bare, last := out.bare, out.last
			out.mu.Unlock()
			if bare > 0 {
				best = min(best, last.Sub(start))
				break
			}
			if time.Since(start) > 5*time.Second {
				t.Fatal("never acknowledged")
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return best
}

func TestTheSecondSegmentIsAcknowledgedAtOnce(t *testing.T) {
	srv, cli, out := conversation(t)
	if err := cli.SetOption(me, unix.SOL_TCP, unix.TCP_NODELAY, intVal(1)); err != nil {
		t.Fatal(err)
	}
	if d := acknowledged(t, srv, cli, out, 2); d > time.Duration(delackTime)*3/4 {
		t.Errorf("two segments were acknowledged after %v", d)
	}
}

func TestQuickAckSendsWhatIsHeld(t *testing.T) {
	srv, cli, out := conversation(t)
	if err := write(t, cli, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	readFull(t, srv, 100)
	f := srv.(*inetSocket).flow.Load()
	a := &srv.(*inetSocket).s.acks
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Microsecond) {
		a.mu.Lock()
		held := f.held != nil
		a.mu.Unlock()
		if held {
			break
		}
		if _, bare := out.take(); bare > 0 || time.Now().After(deadline) {
			t.Skip("the machine was too slow to see it held")
		}
	}
	if err := srv.SetOption(me, unix.SOL_TCP, unix.TCP_QUICKACK, intVal(1)); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	held := f.held != nil
	a.mu.Unlock()
	if held {
		t.Error("TCP_QUICKACK left an acknowledgement waiting")
	}
}

// A peer that has asked for what was lost needs the answer now: numbers that repeat
// are never held. Nor may netstack's sender give up: with RACK it did.
func TestLossIsRepairedWhileAcknowledgementsAreDelayed(t *testing.T) {
	for _, offload := range []bool{false, true} {
		for _, every := range []int{7, 23} {
			x, y, _, dy := twoStacks(t, testRAM, offload)
			srv, cli, _ := connected(t, x, y, in4(10, 0, 0, 1, 0))
			exchange(t, srv, cli, 3)
			n := 0
			dy.mu.Lock()
			dy.lose = func(f []byte) bool { n++; return n%every == 0 }
			dy.mu.Unlock()
			want := pattern(300 << 10)
			go write(t, cli, want)
			if got := readFull(t, srv, len(want)); string(got) != string(want) {
				t.Fatal("the bytes differ")
			}
			exchange(t, srv, cli, 5)
		}
	}
}
