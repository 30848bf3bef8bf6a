package devfs

import (
	"bytes"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/fs/vfs"
	"kiln/kernel/klog"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// maxMessage is the longest message that is written (LOG_LINE_MAX of Linux 6.1, less its prefix).
const maxMessage = 1024 - 32

// Facility and level of a message that names none (LOG_USER, LOG_WARNING).
const (
	facilityUser = 1 << 3
	levelDefault = 4
)

// kmsg is /dev/kmsg: each description goes through the records by itself, one a read.
type kmsg struct {
	node
	log *klog.Log
	say func(prio int, text string)

	mu   sync.Mutex
	next uint64
}

// openKmsg: EPERM for a reader who may not see the kernel's messages.
func openKmsg(l vfs.Lookup, i vfs.Inode, flags uint32, cfg *Config) (vfs.FileOps, error) {
	if flags&unix.O_ACCMODE != unix.O_WRONLY && !klog.MayRead(l.Creds) {
		return nil, unix.EPERM
	}
	first, _, _ := cfg.Messages.Bounds()
	return &kmsg{node: node{i: i}, log: cfg.Messages, say: cfg.Say, next: first}, nil
}

// Read implements vfs.FileOps: EAGAIN, EPIPE (records have been lost), EINVAL (dst is too short),
// EFAULT. As on Linux, a record that was not received has been read all the same.
func (k *kmsg) Read(_ wait.Context, _ *vfs.File, dst *mm.IOSeq, _ int64) (int, error) {
	b, err := k.take()
	if err != nil {
		return 0, err
	}
	if dst.Len() < len(b) {
		return 0, unix.EINVAL
	}
	if _, err := dst.CopyOut(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// take is the next record: EAGAIN, EPIPE.
func (k *kmsg) take() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, ok := k.log.Record(k.next)
	if !ok {
		if first, _, _ := k.log.Bounds(); k.next < first {
			k.next = first
			return nil, unix.EPIPE
		}
		return nil, unix.EAGAIN
	}
	k.next++
	return b, nil
}

// Write implements vfs.FileOps: EINVAL for a message that is too long.
func (k *kmsg) Write(_ wait.Context, _ *vfs.File, src *mm.IOSeq, _ int64) (int, error) {
	n := src.Len()
	if n > maxMessage {
		return 0, unix.EINVAL
	}
	b := make([]byte, n)
	if _, err := src.CopyIn(b); err != nil {
		return 0, err
	}
	prio := facilityUser | levelDefault
	if i := bytes.IndexByte(b, '>'); i >= 1 && b[0] == '<' {
		if p, err := strconv.ParseUint("0"+string(b[1:i]), 10, 31); err == nil {
			if prio = int(p & 7); p>>3 != 0 {
				prio |= int(p &^ 7 & 0x7f8)
			} else {
				prio |= facilityUser
			}
			b = b[i+1:]
		}
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	k.say(prio, string(bytes.TrimSuffix(b, []byte{'\n'})))
	return n, nil
}

// Seek implements vfs.Seeker: to the first record, the first since the log was cleared, or
// behind the last. ESPIPE for an offset, EINVAL.
func (k *kmsg) Seek(_ wait.Context, _ *vfs.File, _, off int64, whence int) (int64, error) {
	if off != 0 {
		return 0, unix.ESPIPE
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	first, clear, end := k.log.Bounds()
	switch whence {
	case unix.SEEK_SET:
		k.next = first
	case unix.SEEK_DATA:
		k.next = clear
	case unix.SEEK_END:
		k.next = end
	default:
		return 0, unix.EINVAL
	}
	return 0, nil
}

// Readiness implements waiter.Waitable.
func (k *kmsg) Readiness(mask waiter.EventMask) waiter.EventMask {
	k.mu.Lock()
	defer k.mu.Unlock()
	var r waiter.EventMask
	first, _, end := k.log.Bounds()
	if k.next < end {
		r |= waiter.ReadableEvents
	}
	if k.next < first {
		r |= waiter.EventErr | waiter.EventPri
	}
	return mask & r
}

func (k *kmsg) EventRegister(e *waiter.Entry) error { k.log.Queue().EventRegister(e); return nil }
func (k *kmsg) EventUnregister(e *waiter.Entry)     { k.log.Queue().EventUnregister(e) }
