package net

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// blockRing is what a receiving ring of TPACKET_V3 has more: packets of any length are
// written one behind the other into a block, which is the program's when the next packet
// does not fit, or when its first one has been there for some time (retire). Then the next
// block is opened, unless the program still has it: then the ring is frozen and drops.
// The socket's mu guards it.
type blockRing struct {
	r      *packetRing
	x      *packetSocket
	priv   uint32        // bytes behind a block's head that are the program's
	retire time.Duration // tp_retire_blk_tov

	active  uint32 // the block that is being filled
	seq     uint64
	frozen  bool
	freezes uint32 // since PACKET_STATISTICS was read
	packets uint32
	at      int64 // where the next packet goes,
	last    int64 // and the last one went
	stamp   int64 // of the last one

	timer    tcpip.Timer
	deadline int64 // when the block is given up, 0: not armed
	stopped  bool
}

// A block begins with struct tpacket_block_desc.
const (
	blockVersion  = 0
	blockToPriv   = 4
	blockStatus   = 8
	blockPackets  = 12
	blockToFirst  = 16
	blockLen      = 20
	blockSeq      = 24
	blockFirstSec = 32
	blockLastSec  = 40
	blockHeadSize = 48
	blockAlign    = 8

	// defaultRetire is what Linux takes where a link's speed says nothing better.
	defaultRetire = 8 * time.Millisecond
)

// blockHead is where in a block the first packet goes.
func blockHead(priv uint32) uint64 {
	return blockHeadSize + (uint64(priv)+blockAlign-1)&^(blockAlign-1)
}

func retireAfter(ms uint32) time.Duration {
	if ms == 0 {
		return defaultRetire
	}
	return time.Duration(ms) * time.Millisecond
}

func (k *blockRing) block(i uint32) int64 { return k.r.base + int64(i)*int64(k.r.blockSize) }

// theirs says whether the program has block i.
func (k *blockRing) theirs(i uint32) bool {
	return k.r.m.get32(k.block(i)+blockStatus)&tpStatusUser != 0
}

func (k *blockRing) next(i uint32) uint32 {
	if i+1 == k.r.blockNr {
		return 0
	}
	return i + 1
}

// most is the room for a packet, with its header, in a block of its own.
func (k *blockRing) most() int { return int(k.r.blockSize) - int(blockHead(k.priv)) }

func (k *blockRing) put64(off int64, v uint64) {
	k.r.m.put32(off, uint32(v))
	k.r.m.put32(off+4, uint32(v>>32))
}

func (k *blockRing) putTime(off, ns int64) {
	k.r.m.put32(off, uint32(ns/1e9))
	k.r.m.put32(off+4, uint32(ns%1e9))
}

// open begins to fill the active block.
func (k *blockRing) open() {
	b, m := k.block(k.active), k.r.m
	head := blockHead(k.priv)
	k.seq++
	k.put64(b+blockSeq, k.seq)
	m.put32(b+blockPackets, 0)
	m.put32(b+blockLen, uint32(head))
	k.putTime(b+blockFirstSec, k.x.s.cfg.Machine.Walltime())
	m.put32(b+blockToFirst, uint32(head))
	m.put32(b+blockToPriv, blockHeadSize)
	m.put32(b+blockVersion, tpacketV3)
	k.packets, k.frozen, k.deadline = 0, false, 0
	k.at = b + int64(head)
	k.last = k.at
}

// close gives the active block to the program, unless that has written its status itself.
func (k *blockRing) close(status uint32) {
	b, m := k.block(k.active), k.r.m
	if m.get32(b+blockStatus) != tpStatusKernel {
		return
	}
	if k.x.drops > 0 {
		status |= tpStatusLosing
	}
	m.put32(k.last, 0) // tp_next_offset
	if k.packets == 0 {
		k.stamp = k.x.s.cfg.Machine.Walltime()
	}
	k.putTime(b+blockLastSec, k.stamp)
	m.put32(b+blockStatus, tpStatusUser|status)
	k.active = k.next(k.active)
	k.x.wake = true
}

// dispatch opens the active block; false: the program has it, and the ring is frozen.
func (k *blockRing) dispatch() bool {
	k.deadline = 0
	if k.theirs(k.active) {
		k.frozen = true
		k.freezes++
		return false
	}
	k.open()
	return true
}

// room is where a packet of n bytes goes, with its header; false: nowhere.
func (k *blockRing) room(n int) (int64, bool) {
	if k.frozen {
		if k.theirs(k.active) {
			return 0, false
		}
		k.open()
	}
	n = align(n, blockAlign)
	if k.at+int64(n) >= k.block(k.active)+int64(k.r.blockSize) {
		k.close(0)
		if !k.dispatch() {
			return 0, false
		}
	}
	b, at := k.block(k.active), k.at
	k.last = at
	k.at += int64(n)
	k.packets++
	k.r.m.put32(at, uint32(n)) // tp_next_offset
	k.r.m.put32(b+blockLen, uint32(k.at-b))
	k.r.m.put32(b+blockPackets, k.packets)
	if k.packets == 1 {
		k.arm()
	}
	return at, true
}

// arm has the block given up when its time is over: an empty one never is.
func (k *blockRing) arm() {
	k.deadline = k.x.s.clock.q.Now() + int64(k.retire)
	if k.timer == nil {
		k.timer = k.x.s.clock.AfterFunc(k.retire, k.expired)
	} else {
		k.timer.Reset(k.retire)
	}
}

func (k *blockRing) expired() {
	x := k.x
	x.mu.Lock()
	switch left := k.deadline - x.s.clock.q.Now(); {
	case k.stopped, k.deadline == 0, k.packets == 0, k.frozen:
	case left > 0:
		k.timer.Reset(time.Duration(left))
	default:
		k.close(tpStatusBlkTmo)
		k.dispatch()
	}
	wake := x.wake
	x.wake = false
	x.mu.Unlock()
	if wake {
		x.q.Notify(waiter.ReadableEvents)
	}
}

// stop ends the ring's time-out. The socket's mu is held.
func (k *blockRing) stop() {
	k.stopped = true
	if k.timer != nil {
		k.timer.Stop()
	}
}
