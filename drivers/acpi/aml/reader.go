package aml

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// reader takes bytes from one block. After a read beyond its end, bad is set and
// every further read gives zero.
type reader struct {
	b    []byte
	last []byte // before the last byte(), for unread
	bad  bool
}

func (r *reader) byte() byte {
	if r.bad || len(r.b) == 0 {
		r.bad = true
		return 0
	}
	r.last = r.b
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) unread() {
	if !r.bad {
		r.b = r.last
	}
}

func (r *reader) skip(n int) {
	if r.bad || n > len(r.b) {
		r.bad = true
		return
	}
	r.b = r.b[n:]
}

func (r *reader) uint(n int) uint64 {
	if r.bad || n > len(r.b) {
		r.bad = true
		return 0
	}
	var v [8]byte
	copy(v[:], r.b[:n])
	r.b = r.b[n:]
	return binary.LittleEndian.Uint64(v[:])
}

func (r *reader) str() string {
	i := bytes.IndexByte(r.b, 0)
	if r.bad || i < 0 {
		r.bad = true
		return ""
	}
	s := string(r.b[:i])
	r.b = r.b[i+1:]
	return s
}

// pkg reads a PkgLength (ACPI 20.2.4) and returns the block it measures. The
// length counts its own bytes.
func (r *reader) pkg() *reader {
	start := r.b
	lead := int(r.byte())
	n := lead & 0x3f
	if extra := lead >> 6; extra > 0 {
		n = lead & 0xf
		for i := 0; i < extra; i++ {
			n |= int(r.byte()) << (4 + 8*i)
		}
	}
	used := len(start) - len(r.b)
	if r.bad || n < used || n > len(start) {
		r.bad = true
		return &reader{bad: true}
	}
	r.b = start[n:]
	return &reader{b: start[used:n]}
}

// isName tells whether a NameString can begin with c.
func isName(c byte) bool {
	return c == '\\' || c == '^' || c == 0x2e || c == 0x2f || c == '_' || c >= 'A' && c <= 'Z'
}

// name reads a NameString (ACPI 20.2.2) as text: `\_SB.PCI0`, `^FOO`. Trailing
// underscores, which only pad a segment to four letters, are removed.
func (r *reader) name() string {
	var s strings.Builder
	c := r.byte()
	for c == '\\' || c == '^' {
		if s.Len() > maxDepth {
			r.bad = true
		}
		s.WriteByte(c)
		c = r.byte()
	}
	n := 1
	switch c {
	case 0:
		return s.String()
	case 0x2e:
		n = 2
	case 0x2f:
		n = int(r.byte())
	default:
		r.unread()
	}
	for i := 0; i < n; i++ {
		if r.bad || len(r.b) < 4 || !isName(r.b[0]) || n > 2*maxDepth {
			r.bad = true
			return ""
		}
		if i > 0 {
			s.WriteByte('.')
		}
		seg := strings.TrimRight(string(r.b[:4]), "_")
		if seg == "" {
			seg = "_"
		}
		s.WriteString(seg)
		r.b = r.b[4:]
	}
	return s.String()
}
