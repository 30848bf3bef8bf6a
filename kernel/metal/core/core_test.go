package core

import (
	"bytes"
	"encoding/binary"
	"math/rand"
	"testing"
)

// TestBuddyNeverHandsOutAFrameTwice runs random allocations against a map and
// checks that all memory comes back as it was.
func TestBuddyNeverHandsOutAFrameTwice(t *testing.T) {
	const n = 5000
	var b Buddy
	b.Init(0, make([]uint8, n), make([]uint32, n), make([]uint32, n))
	b.AddRange(3, 1500)
	b.AddRange(1600, n)
	total := b.Free
	if total != 1497+3400 {
		t.Fatal(total)
	}
	r := rand.New(rand.NewSource(1))
	owner := make([]bool, n)
	type blk struct {
		pfn uint64
		o   uint
	}
	var held []blk
	for i := 0; i < 100000; i++ {
		if o := uint(r.Intn(MaxOrder + 1)); r.Intn(2) == 0 {
			if p, ok := b.Alloc(o); ok {
				if p&(1<<o-1) != 0 {
					t.Fatal("misaligned", p, o)
				}
				for j := p; j < p+1<<o; j++ {
					if owner[j] || j < 3 || j >= 1500 && j < 1600 {
						t.Fatal("frame", j, "twice or foreign")
					}
					owner[j] = true
				}
				held = append(held, blk{p, o})
			}
		} else if len(held) > 0 {
			k := r.Intn(len(held))
			h := held[k]
			held[k] = held[len(held)-1]
			held = held[:len(held)-1]
			for j := h.pfn; j < h.pfn+1<<h.o; j++ {
				owner[j] = false
			}
			if !b.Release(h.pfn, h.o) {
				t.Fatal("release refused")
			}
			if b.Release(h.pfn, h.o) {
				t.Fatal("double release accepted")
			}
		}
	}
	for _, h := range held {
		b.Release(h.pfn, h.o)
	}
	if b.Free != total {
		t.Fatal(b.Free, total)
	}
	if b.Release(1550, 0) || b.Release(n, 0) {
		t.Fatal("foreign frame accepted")
	}
}

func TestRegionsAgreeWithAPageMap(t *testing.T) {
	const lo, pages = 0x10000, 256
	var l Regions
	l.Init(lo, lo+pages, make([]Region, 300))
	ref := make([]uint32, pages) // prot + 1, 0 free
	r := rand.New(rand.NewSource(2))
	for i := 0; i < 50000; i++ {
		a, n := uint64(r.Intn(pages)), uint64(1+r.Intn(20))
		end := min(a+n, pages)
		switch r.Intn(3) {
		case 0:
			p := uint32(r.Intn(3))
			if !l.Set(lo+a, lo+end, p) {
				t.Fatal("full")
			}
			for j := a; j < end; j++ {
				ref[j] = p + 1
			}
		case 1:
			l.Remove(lo+a, lo+end)
			for j := a; j < end; j++ {
				ref[j] = 0
			}
		default:
			if g, ok := l.Gap(n, 1); ok && !l.Vacant(g, g+n) {
				t.Fatal("gap is not vacant")
			}
		}
		for j := uint64(0); j < pages; j++ {
			p, ok := l.Find(lo + j)
			if ok != (ref[j] != 0) || ok && p+1 != ref[j] {
				t.Fatalf("step %d page %d: %v %v want %d", i, j, p, ok, ref[j])
			}
		}
		for j := 1; j < l.Len(); j++ {
			if x, y := l.At(j-1), l.At(j); x.End > y.Start || x.End == y.Start && x.Prot == y.Prot {
				t.Fatal("not ordered or not merged")
			}
		}
	}
}

func TestTimersExpireInOrder(t *testing.T) {
	var q Timers
	r := rand.New(rand.NewSource(3))
	ref := map[uint32]int64{}
	for i := 0; i < 20000; i++ {
		id := uint32(r.Intn(MaxSlots + 1))
		switch r.Intn(3) {
		case 0, 1:
			w := int64(r.Intn(1000))
			q.Set(id, w)
			ref[id] = w
		default:
			q.Clear(id)
			delete(ref, id)
		}
		if i%100 == 0 {
			now := int64(r.Intn(300))
			last := int64(-1)
			for id := q.Expired(now); id != None; id = q.Expired(now) {
				w, ok := ref[id]
				if !ok || w > now || w < last {
					t.Fatal("expired wrongly", id, w, now, last)
				}
				last = w
				delete(ref, id)
			}
			for _, w := range ref {
				if w <= now {
					t.Fatal("missed", w, now)
				}
			}
		}
	}
}

func TestQueueAndWaitersKeepOrder(t *testing.T) {
	var q Queue
	for i := uint32(0); i < 2000; i++ {
		q.Push(i)
	}
	if q.Len() != MaxSlots {
		t.Fatal(q.Len())
	}
	q.Pop()
	q.PushFront(7777)
	if q.Pop() != 7777 || q.Pop() != 1 {
		t.Fatal("order")
	}
	var w Waiters
	w.Add(1, 100)
	w.Add(2, 200)
	w.Add(3, 100)
	w.Drop(2)
	if w.Wake(200) != None || w.Wake(100) != 1 || w.Wake(100) != 3 || w.Wake(100) != None {
		t.Fatal("waiters")
	}
}

// TestChaChaBlock is the vector of RFC 8439 2.3.2 with this generator's counter
// layout (64-bit counter, zero nonce), from the key 00..1f.
func TestChaChaBlock(t *testing.T) {
	var r RNG
	for i := range r.key {
		r.key[i] = uint32(4*i) | uint32(4*i+1)<<8 | uint32(4*i+2)<<16 | uint32(4*i+3)<<24
	}
	r.block()
	var b bytes.Buffer
	for _, w := range r.buf {
		binary.Write(&b, binary.LittleEndian, w)
	}
	want := []byte{0x39, 0xfd, 0x2b, 0x7d, 0xd9, 0xc5, 0x19, 0x6a}
	if !bytes.Equal(b.Bytes()[:8], want) {
		t.Fatalf("% x", b.Bytes()[:8])
	}
	seen := map[uint64]bool{}
	for i := 0; i < 1000; i++ {
		v := r.Uint64()
		if seen[v] {
			t.Fatal("repeats")
		}
		seen[v] = true
	}
}

func TestCoveredSeesHoles(t *testing.T) {
	var l Regions
	l.Init(0x1000, 0x100000, make([]Region, 16))
	l.Set(0x1000, 0x3000, 3)
	l.Set(0x3000, 0x4000, 0)
	l.Set(0x5000, 0x6000, 3)
	for _, c := range []struct {
		start, end uint64
		want       bool
	}{{0x1000, 0x4000, true}, {0x2000, 0x3800, true}, {0x2000, 0x5000, false}, {0x2000, 0x6000, false},
		{0x5000, 0x6000, true}, {0x5000, 0x7000, false}, {0, 0x2000, false}, {0x8000, 0x9000, false}} {
		if got := l.Covered(c.start, c.end); got != c.want {
			t.Errorf("Covered(%#x, %#x) = %v", c.start, c.end, got)
		}
	}
}
