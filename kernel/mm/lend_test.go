package mm

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

func TestLendGivesWhatLiesInOnePiece(t *testing.T) {
	r := newRig(t, 256)
	o := NewObject(r.mem, nil, 0)
	data := bytes.Repeat([]byte("0123456789abcdef"), 3*pg/16)
	q := KernelIO(data)
	if n, err := o.WriteAt(wait.Background(), &q, 0); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
	for _, c := range []struct {
		off  int64
		n    int
		want int // -1: not lent
	}{
		{0, 100, 100}, {pg - 10, 10, 10}, {pg - 10, 11, -1}, {2*pg + 5, 1 << 20, pg - 5},
		{3 * pg, 1, -1}, {1 << 40, 1, -1}, {0, 0, -1},
	} {
		l, ok, err := o.Lend(wait.Background(), c.off, c.n)
		if err != nil || ok != (c.want >= 0) || ok && !bytes.Equal(l.Bytes, data[c.off:c.off+int64(c.want)]) {
			t.Errorf("Lend(%d, %d): %d bytes, %v, %v", c.off, c.n, len(l.Bytes), ok, err)
		}
		if ok {
			l.Return()
		}
	}
	if _, _, err := o.Lend(wait.Background(), -1, 1); err != unix.EINVAL {
		t.Errorf("before the start: %v", err)
	}
	l, ok, _ := o.Lend(wait.Background(), 0, 16)
	if !ok || o.Truncate(0) != nil || string(l.Bytes) != "0123456789abcdef" {
		t.Error("what was lent went with the file's end")
	}
	l.Return()
	o.DecRef()
	r.close()
}
