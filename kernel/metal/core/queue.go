package core

// MaxSlots is the number of Ms a machine can have.
const MaxSlots = 1024

// Queue is a bounded FIFO of slot numbers that also gives way to urgent ones. A slot stands in it at
// most once.
type Queue struct {
	Magic   uint32 // non-zero keeps it in .data
	n, head uint32
	ring    [MaxSlots]uint32
}

// Len is the number of slots queued.
func (q *Queue) Len() int { return int(q.n) }

// Push queues at the back.
func (q *Queue) Push(id uint32) {
	if q.n == MaxSlots {
		return
	}
	q.ring[(q.head+q.n)%MaxSlots] = id
	q.n++
}

// PushFront queues before all others.
func (q *Queue) PushFront(id uint32) {
	if q.n == MaxSlots {
		return
	}
	q.head = (q.head + MaxSlots - 1) % MaxSlots
	q.ring[q.head%MaxSlots] = id
	q.n++
}

// Pop takes the first, or None.
func (q *Queue) Pop() uint32 {
	if q.n == 0 {
		return None
	}
	id := q.ring[q.head%MaxSlots]
	q.head = (q.head + 1) % MaxSlots
	q.n--
	return id
}

// Timers is a binary heap of deadlines, at most one a slot.
type Timers struct {
	Magic uint32
	n     uint32
	when  [MaxSlots + 1]int64
	pos   [MaxSlots + 1]uint32 // 1 + index in heap, 0 if not set
	heap  [MaxSlots + 1]uint32
}

// Next is the earliest deadline; ok is false without any.
func (t *Timers) Next() (when int64, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	return t.when[t.heap[0]%(MaxSlots+1)], true
}

// When is slot id's deadline, 0 without one.
func (t *Timers) When(id uint32) int64 {
	if id > MaxSlots || t.pos[id] == 0 {
		return 0
	}
	return t.when[id]
}

// Set arms or moves slot id's deadline.
func (t *Timers) Set(id uint32, when int64) {
	if id > MaxSlots {
		return
	}
	if t.pos[id] == 0 {
		t.heap[t.n] = id
		t.n++
		t.pos[id] = t.n
	}
	t.when[id] = when
	t.up(t.pos[id] - 1)
	t.down(t.pos[id] - 1)
}

// Clear disarms slot id.
func (t *Timers) Clear(id uint32) {
	if id > MaxSlots || t.pos[id] == 0 {
		return
	}
	i := t.pos[id] - 1
	t.n--
	t.pos[id] = 0
	if i != t.n {
		last := t.heap[t.n]
		t.heap[i] = last
		t.pos[last] = i + 1
		t.up(i)
		t.down(t.pos[last] - 1)
	}
}

// Expired takes a slot whose deadline is not after now, or None.
func (t *Timers) Expired(now int64) uint32 {
	if t.n == 0 || t.when[t.heap[0]] > now {
		return None
	}
	id := t.heap[0]
	t.Clear(id)
	return id
}

func (t *Timers) less(i, j uint32) bool { return t.when[t.heap[i]] < t.when[t.heap[j]] }

func (t *Timers) swap(i, j uint32) {
	a, b := t.heap[i], t.heap[j]
	t.heap[i], t.heap[j] = b, a
	t.pos[b], t.pos[a] = i+1, j+1
}

func (t *Timers) up(i uint32) {
	for i > 0 && t.less(i, (i-1)/2) {
		t.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (t *Timers) down(i uint32) {
	for {
		c := 2*i + 1
		if c >= t.n {
			return
		}
		if c+1 < t.n && t.less(c+1, c) {
			c++
		}
		if !t.less(c, i) {
			return
		}
		t.swap(i, c)
		i = c
	}
}

// Waiters is a FIFO of slots waiting on addresses (futex words).
type Waiters struct {
	Magic uint32
	n     uint32
	id    [MaxSlots]uint32
	addr  [MaxSlots]uint64
}

// Add queues slot id on addr.
func (w *Waiters) Add(id uint32, addr uint64) {
	if w.n < MaxSlots {
		w.id[w.n], w.addr[w.n] = id, addr
		w.n++
	}
}

// Wake takes the longest waiter on addr, or None.
func (w *Waiters) Wake(addr uint64) uint32 {
	for i := uint32(0); i < w.n; i++ {
		if w.addr[i] == addr {
			id := w.id[i]
			w.cut(i)
			return id
		}
	}
	return None
}

// Drop removes slot id.
func (w *Waiters) Drop(id uint32) {
	for i := uint32(0); i < w.n; i++ {
		if w.id[i] == id {
			w.cut(i)
			return
		}
	}
}

func (w *Waiters) cut(i uint32) {
	w.n--
	for ; i < w.n; i++ {
		w.id[i], w.addr[i] = w.id[i+1], w.addr[i+1]
	}
}
