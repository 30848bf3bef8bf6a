package mm

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// While everything that could be taken back is being read from the disk, a fault waits for
// a read to end instead of calling memory exhausted.
func TestMemoryInFlightIsNotExhausted(t *testing.T) {
	r := newRig(t, 128)
	d := newDisk(r.m, 600)
	o := NewObject(r.mem, d, 600*pg)
	s := r.space()
	r.mem.OnOOM(func(*Space) { t.Error("a program is to end for memory that is being read") })
	f := r.mmap(s, MapArgs{Len: 600 * pg, Prot: hal.ProtRead, Flags: priv, Object: o})
	a := r.mmap(s, MapArgs{Len: 200 * pg, Prot: rw, Flags: anon | unix.MAP_NORESERVE})
	// Room for one read only.
	n := hal.UserAddr(0)
	for ; r.m.FreePages() > readAround; n++ {
		r.put(s, a+n*pg, 1)
	}
	d.mu.Lock()
	d.gate = make(chan struct{})
	d.mu.Unlock()
	read := make(chan struct{})
	go func() {
		r.want(s, f+32*pg, 33)
		close(read)
	}()
	for r.mem.reclaim.filling.Load() == 0 || d.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	for {
		fr, err := r.mem.M.AllocFrames(0, 0) // what the read left
		if err != nil {
			break
		}
		defer r.mem.M.FreeFrames(fr, 0)
	}
	done := make(chan error)
	go func() { done <- s.HandleFault(nil, a+190*pg, hal.ProtWrite) }()
	select {
	case err := <-done:
		t.Errorf("the fault did not wait: %v", err)
		close(d.gate)
	case <-time.After(30 * time.Millisecond):
		close(d.gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	<-read
	s.DecUsers()
	o.DecRef()
}
