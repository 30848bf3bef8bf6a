package net

import (
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/waiter"

	"kiln/kernel/mm"
)

// unixSent is what a socket has sent and nobody has read yet, counted against its send buffer
// as Linux does (sk_wmem_alloc). It is apart from the socket, which may be closed before its
// messages are read.
type unixSent struct {
	size    atomic.Int64
	most    atomic.Int64               // sndbuf
	starved atomic.Bool                // the budget refused a message while there were others
	sock    atomic.Pointer[unixSocket] // nil: closed
	name    atomic.Pointer[[]byte]     // the socket's, nil: it has none
}

// charge charges the budget for a message: EAGAIN where it refuses, but somebody will read
// others of the socket's and so tell it, else ENOBUFS.
func (u *unixSent) charge(b *mm.Budget, cost int64) error {
	if b.Charge(cost) {
		return nil
	}
	if u.size.Load() == 0 {
		return unix.ENOBUFS
	}
	// Whoever reads one from now on sees the mark; for who has read one before, once more.
	u.starved.Store(true)
	if b.Charge(cost) {
		return nil
	}
	return unix.EAGAIN
}

// tell wakes who waits for room in the buffer of a socket one of whose messages has gone, once
// three quarters of it are free (unix_write_space). No lock may be held.
func (u *unixSent) tell() {
	if u.starved.Load() && u.starved.Swap(false) || u.writable() {
		if x := u.sock.Load(); x != nil {
			x.q.Notify(waiter.WritableEvents)
		}
	}
}

// full says whether no more goes into the send buffer (sock_alloc_send_pskb).
func (u *unixSent) full() bool { return u.size.Load() >= u.most.Load() }

// writable says whether poll(2) finds room in the send buffer (unix_writable).
func (u *unixSent) writable() bool {
	n := u.size.Load()
	return n*4 <= u.most.Load() && !(n > 0 && u.starved.Load())
}

// What a message counts in the send buffer, as in Linux on x86-64: the sk_buff, its first bytes
// with skb_shared_info in a piece of kmalloc's, and pages for the others.
const (
	skbHead       = 256
	skbShared     = 320
	skbLeast      = 512 // kmalloc's smallest piece for them
	skbPage       = 4096
	streamLinear  = skbPage - skbShared   // SKB_MAX_HEAD(0)
	messageLinear = 4*skbPage - skbShared // SKB_MAX_ALLOC
	streamPaged   = 8 * skbPage           // UNIX_SKB_FRAGS_SZ
	messagePaged  = 17 * skbPage          // MAX_SKB_FRAGS
)

// skbSize is what n bytes count, in a message whose first part has linear bytes at most.
func skbSize(n, linear int) int64 {
	pages := 0
	if n > linear {
		pages = min((n-linear+skbPage-1)&^(skbPage-1), messagePaged)
	}
	head := (max(n-pages, 0)+63)&^63 + skbShared
	return int64(skbHead + max(skbLeast, 1<<bits.Len(uint(head-1))) + pages)
}

func (x *unixSocket) skbSize(n int) int64 {
	if x.stream() {
		return skbSize(n, streamLinear)
	}
	return skbSize(n, messageLinear)
}

// streamPiece is how many bytes of a write go into one message.
func (u *unixSent) streamPiece(n int) int {
	return min(n, int(u.most.Load())/2-64, unixPiece)
}
