package net

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// unixBytes are the bytes of a message. They come from a pool and are not cleared: whoever gets
// them writes all n, or gives them back.
type unixBytes struct {
	b    []byte
	n    int
	refs atomic.Int32
}

// unixPools are for the powers of two from unixLeast to unixMost, what is larger is not kept;
// unixPieces is for the largest piece of a stream.
var (
	unixPools  [11]sync.Pool
	unixPieces sync.Pool
)

const (
	unixLeast = 64
	unixMost  = 64 << 10
	unixPiece = streamLinear + streamPaged
)

// unixPool is where n bytes come from, nil for none, and how many that are.
func unixPool(n int) (*sync.Pool, int) {
	switch {
	case n > unixMost:
		return nil, n
	case n <= unixPiece && n > unixMost/2:
		return &unixPieces, unixPiece
	}
	i := bits.Len(uint(max(n, unixLeast)-1)) - bits.Len(unixLeast-1)
	return &unixPools[i], unixLeast << i
}

func newUnixBytes(n int) *unixBytes {
	p, size := unixPool(n)
	if p != nil {
		if v, ok := p.Get().(*unixBytes); ok {
			v.n = n
			v.refs.Store(1)
			return v
		}
	}
	v := &unixBytes{b: make([]byte, size), n: n}
	v.refs.Store(1)
	return v
}

// release gives a reference back; v may be nil.
func (v *unixBytes) release() {
	if v == nil || v.refs.Add(-1) > 0 {
		return
	}
	if p, _ := unixPool(len(v.b)); p != nil {
		p.Put(v)
	}
}
