package core

import "math/bits"

// RNG is ChaCha20 (RFC 8439 2.3) in counter mode with fast key erasure: the first
// 32 bytes of each refill replace the key.
type RNG struct {
	Magic uint32
	key   [8]uint32
	count uint64
	buf   [16]uint32
	left  uint32
	acc   uint32
}

// Mix folds a word into the key.
func (r *RNG) Mix(v uint64) {
	i := r.acc & 3
	r.acc++
	r.key[2*i] ^= uint32(v)
	r.key[2*i+1] ^= uint32(v >> 32)
	r.left = 0
	if i == 3 {
		r.block()
		for j := 0; j < 8; j++ {
			r.key[j] = r.buf[j]
		}
	}
}

func (r *RNG) block() {
	var s [16]uint32
	s[0], s[1], s[2], s[3] = 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574
	for i := 0; i < 8; i++ {
		s[4+i] = r.key[i]
	}
	s[12], s[13] = uint32(r.count), uint32(r.count>>32)
	r.count++
	w := s
	for i := 0; i < 10; i++ {
		quarter(&w, 0, 4, 8, 12)
		quarter(&w, 1, 5, 9, 13)
		quarter(&w, 2, 6, 10, 14)
		quarter(&w, 3, 7, 11, 15)
		quarter(&w, 0, 5, 10, 15)
		quarter(&w, 1, 6, 11, 12)
		quarter(&w, 2, 7, 8, 13)
		quarter(&w, 3, 4, 9, 14)
	}
	for i := 0; i < 16; i++ {
		r.buf[i] = w[i] + s[i]
	}
}

func quarter(w *[16]uint32, a, b, c, d int) {
	w[a&15] += w[b&15]
	w[d&15] = bits.RotateLeft32(w[d&15]^w[a&15], 16)
	w[c&15] += w[d&15]
	w[b&15] = bits.RotateLeft32(w[b&15]^w[c&15], 12)
	w[a&15] += w[b&15]
	w[d&15] = bits.RotateLeft32(w[d&15]^w[a&15], 8)
	w[c&15] += w[d&15]
	w[b&15] = bits.RotateLeft32(w[b&15]^w[c&15], 7)
}

// Uint64 is the next random word.
func (r *RNG) Uint64() uint64 {
	if r.left == 0 {
		r.block()
		for j := 0; j < 8; j++ {
			r.key[j] = r.buf[j]
		}
		r.left = 4
	}
	r.left--
	i := 8 + 2*r.left
	v := uint64(r.buf[i&15]) | uint64(r.buf[(i+1)&15])<<32
	r.buf[i&15], r.buf[(i+1)&15] = 0, 0
	return v
}
