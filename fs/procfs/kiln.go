package procfs

import (
	"bytes"
	"fmt"
	"runtime"

	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// kiln adds /proc/kiln, which only this kernel has.
func (f *FS) kiln(d *pseudo.Dir) {
	d = d.Mkdir("kiln")
	d.Add("stacks", f.NewFile(0o400, 0, func(_ wait.Context, b *bytes.Buffer) error { stacks(b); return nil }, nil))
	d.Add("counts", f.NewFile(0o400, 0, func(_ wait.Context, b *bytes.Buffer) error { f.counts(b); return nil }, nil))
}

// counts is what the kernel holds at the moment, for tests that look for leaks: frames of
// 4 KiB by use, open file descriptions, processes (zombies included), threads, bytes
// charged to the kernel-heap budget, goroutines, and objects on the Go heap, after a
// collection. That costs a while, so only root may ask.
func (f *FS) counts(b *bytes.Buffer) {
	runtime.GC()
	runtime.GC() // what had to be swept, or to be finalised, at the first
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	st := f.k.M.MemStats()
	threads, forks, _ := f.k.Counts()
	_, _, switches := f.k.Sched.Load()
	line := func(name string, n int64) { fmt.Fprintf(b, "%-12s %d\n", name, n) }
	line("anon", f.k.Mem.Count(mm.KindAnon))
	line("shmem", f.k.Mem.Count(mm.KindShmem))
	line("cache", f.k.Mem.Count(mm.KindCache))
	line("kernel", int64(st.KernelPages))
	line("free", int64(st.FreePages))
	line("files", vfs.OpenFiles())
	line("processes", int64(len(f.k.Processes())))
	line("threads", int64(threads))
	line("budget", f.k.Mem.Budget().Used())
	line("goroutines", int64(runtime.NumGoroutine()))
	line("objects", int64(ms.HeapObjects))
	line("forks", int64(forks))
	line("switches", int64(switches))
}

// stacks is where every goroutine of the kernel is, for whoever looks for a hang; at most
// a megabyte.
func stacks(b *bytes.Buffer) {
	buf := make([]byte, 1<<20)
	b.Write(buf[:runtime.Stack(buf, true)])
}
