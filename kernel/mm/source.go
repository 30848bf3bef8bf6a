package mm

import (
	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// Source is where an Object's pages come from.
type Source interface {
	// ImageRun is the first of n consecutive frames that already hold pages idx,
	// idx+1, … (at most most), if the file lies in memory (an erofs root in the
	// image); n is 0 where it does not.
	ImageRun(idx int64, most int) (first hal.PFN, n int)
	// ReadPages fills frames with pages idx, idx+1, … It may block
	// (Uninterruptible). Bytes beyond the end of the file are zero.
	ReadPages(c wait.Context, idx int64, frames []hal.PFN) error
	// WritePages writes them back; a read-only source returns EROFS.
	WritePages(c wait.Context, idx int64, frames []hal.PFN) error
}

// Grouped is a Source that gives one page at the cost of the group of Group() pages it
// stands in (compressed files). Groups are aligned; their size is a power of two, at
// most 32.
type Grouped interface {
	Group() int
}

// BlockDevice is a disk: drivers/virtio/blk implements it, fs/erofs reads through it.
type BlockDevice interface {
	// Size in bytes; a multiple of 512.
	Size() int64
	// ReadFrames reads len(frames) pages from byte offset off (page aligned)
	// into frames; WriteFrames writes them. They block until the device is done.
	ReadFrames(c wait.Context, off int64, frames []hal.PFN) error
	WriteFrames(c wait.Context, off int64, frames []hal.PFN) error
	Flush(c wait.Context) error
}
