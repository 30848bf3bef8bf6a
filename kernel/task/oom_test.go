package task

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// zeros is a file of zeros on a disk.
type zeros struct{}

func (zeros) ImageRun(int64, int) (hal.PFN, int)                    { return 0, 0 }
func (zeros) ReadPages(wait.Context, int64, []hal.PFN) error        { return nil }
func (zeros) WritePages(_ wait.Context, _ int64, _ []hal.PFN) error { return unix.EROFS }

// A thread that ends by itself gets memory for the word that joiners wait for, where page cache
// is to be had, though one that was killed does without.
func TestEndingThreadHasMemoryForItsWord(t *testing.T) {
	solo(t, func(r *rig, th *Thread) {
		at, err := th.space.Mmap(th, mm.MapArgs{Len: 16 * hal.PageSize, Prot: hal.ProtRead | hal.ProtWrite,
			Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS})
		if err != nil {
			t.Fatal(err)
		}
		if err := th.CopyOut(at, make([]byte, 4)); err != nil { // page tables
			t.Fatal(err)
		}
		r.m.SetWatermarks(0, 0)
		const pages = 8192 // more than there are
		o := mm.NewObject(r.mem, zeros{}, pages*hal.PageSize)
		defer o.DecRef()
		fill := func() {
			for i := range int64(pages) {
				f, err := o.Page(th, i)
				if err != nil {
					t.Fatal(err)
				}
				r.mem.Unref(f)
			}
			for r.m.FreePages() > 0 { // what the last reclaim has left
				if _, err := r.m.AllocFrames(0, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill()
		th.Exit(0)
		if err := th.CopyOut(at+5*hal.PageSize, make([]byte, 4)); err != nil {
			t.Errorf("of a thread that ends: %v", err)
		}
		th.flags.And(^fKill)
		fill()
		th.process.SendSignal(SignalInfo{Signo: int32(unix.SIGKILL)})
		if err := th.CopyOut(at+9*hal.PageSize, make([]byte, 4)); err == nil {
			t.Error("a thread that was killed looked for memory")
		}
	})
}
