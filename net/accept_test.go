package net

import (
	"testing"

	"gvisor.dev/gvisor/pkg/waiter"
)

// A connection that got no descriptor is for whoever accepts next, who may wait already.
func TestUnacceptTellsWhoWaits(t *testing.T) {
	s := newStack(t, testRAM)
	for _, addr := range [][]byte{in4(127, 0, 0, 1, 99), abstract("srv")} {
		l := listen(t, s, addr, 5)
		c, err := connect(t, s, addr)
		if err != nil {
			t.Fatal(err)
		}
		a := accept(t, l)
		e, ch := waiter.NewChannelEntry(waiter.ReadableEvents)
		l.EventRegister(&e)
		l.Unaccept(a)
		select {
		case <-ch:
		default:
			t.Error("nobody hears of it")
		}
		if l.Readiness(waiter.ReadableEvents) == 0 {
			t.Error("not readable")
		}
		a = accept(t, l)
		write(t, c, []byte("hi"))
		if b := readFull(t, a, 2); string(b) != "hi" {
			t.Errorf("got %q", b)
		}
		l.EventUnregister(&e)
		for _, x := range []Socket{a, c, l} {
			x.Release(nil)
		}
	}
}
