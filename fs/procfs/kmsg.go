package procfs

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/klog"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// kmsgFile is /proc/kmsg: what syslog(2) reads, which is read once.
type kmsgFile struct {
	*pseudo.File
	log *klog.Log
}

// Open implements vfs.Inode: EPERM.
func (k *kmsgFile) Open(c wait.Context, _ uint32) (vfs.FileOps, error) {
	if t := thread(c); t != nil && !klog.MayRead(t.Creds()) {
		return nil, unix.EPERM
	}
	return &openKmsg{i: k, log: k.log}, nil
}

// openKmsg is one description.
type openKmsg struct {
	vfs.BaseOps
	i   vfs.Inode
	log *klog.Log
}

func (o *openKmsg) Attr(c wait.Context) (vfs.Attr, error)       { return o.i.Attr(c) }
func (o *openKmsg) SetAttr(c wait.Context, a vfs.SetAttr) error { return o.i.SetAttr(c, a) }
func (o *openKmsg) Seekable() bool                              { return true }

// Still implements vfs.Still.
func (*openKmsg) Still() {}

// Read implements vfs.FileOps: EAGAIN.
func (o *openKmsg) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	b := o.log.Read(dst.Len())
	if len(b) == 0 && dst.Len() > 0 {
		return 0, unix.EAGAIN
	}
	return dst.CopyOut(b)
}

// Readiness implements waiter.Waitable.
func (o *openKmsg) Readiness(mask waiter.EventMask) waiter.EventMask {
	if o.log.Unread() == 0 {
		return 0
	}
	return mask & waiter.ReadableEvents
}

func (o *openKmsg) EventRegister(e *waiter.Entry) error { o.log.Queue().EventRegister(e); return nil }
func (o *openKmsg) EventUnregister(e *waiter.Entry)     { o.log.Queue().EventUnregister(e) }
