package klog

import (
	"fmt"
	"strings"
	"testing"
)

func TestReadersGoThroughInOrder(t *testing.T) {
	var l Log
	if b := l.Read(100); len(b) != 0 || l.Unread() != 0 {
		t.Errorf("an empty log reads %q, %d unread", b, l.Unread())
	}
	l.Add(4, 1_500_000_000, "one")
	l.Add(6, 2_000_001_000, "two")
	first, second := "<4>[    1.500000] one\n", "<6>[    2.000001] two\n"
	if got := string(l.ReadAll(1000)); got != first+second {
		t.Errorf("all is %q", got)
	}
	if got := string(l.ReadAll(len(second) + 1)); got != second {
		t.Errorf("what fits is %q", got)
	}
	if n := l.Unread(); n != len(first+second) {
		t.Errorf("%d unread", n)
	}
	a := string(l.Read(5))
	b := string(l.Read(1000))
	if a+b != first+second || len(a) != 5 || l.Unread() != 0 {
		t.Errorf("read %q and %q", a, b)
	}
	l.Clear()
	if got := l.ReadAll(1000); len(got) != 0 {
		t.Errorf("after Clear there is %q", got)
	}
	l.Add(3, 0, "three")
	if got := string(l.ReadAll(1000)); got != "<3>[    0.000000] three\n" {
		t.Errorf("after Clear and a message there is %q", got)
	}
}

func TestTheOldestGo(t *testing.T) {
	var l Log
	for i := range 10000 {
		l.Add(4, 0, fmt.Sprint("message ", i, strings.Repeat("x", 50)))
	}
	all := string(l.ReadAll(1 << 20))
	if len(all) > Size || len(all) < Size-100 || !strings.Contains(all, "message 9999x") || strings.Contains(all, "message 1x") {
		t.Errorf("%d bytes from %.40q on", len(all), all)
	}
	if got := string(l.Read(1 << 20)); got != all || l.Unread() != 0 {
		t.Errorf("Read gives %d bytes, not those that are left", len(got))
	}
}
