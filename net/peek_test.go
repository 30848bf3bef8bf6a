package net

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// A thread that looks at a datagram while another takes it gets it whole, or none.
func TestPeeksBesideReceives(t *testing.T) {
	s := newStack(t, 64<<20)
	at := in4(127, 0, 0, 1, 900)
	r, w := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP), sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err := r.Bind(me, at); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, flags := range []int{unix.MSG_PEEK, unix.MSG_PEEK, 0} {
		wg.Go(func() {
			b := make([]byte, 1000)
			for {
				select {
				case <-done:
					return
				default:
				}
				q := mm.KernelIO(b)
				n, err := r.Recv(me, &q, &RecvMsg{Flags: flags, Nonblock: true})
				if err == unix.EAGAIN {
					continue
				}
				if err != nil || n != len(b) || b[0] != b[n-1] {
					t.Errorf("flags %d: %d bytes, %v", flags, n, err)
					return
				}
			}
		})
	}
	for i := range 30000 {
		b := make([]byte, 1000)
		for k := range b {
			b[k] = byte(i)
		}
		q := mm.KernelIO(b)
		if _, err := w.Send(me, &q, &SendMsg{Name: at}); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}
