package metal

import (
	"os"
	"regexp"
	"testing"
)

func TestACPUBetweenTwoTablesIsAsked(t *testing.T) {
	const x, y = 0x1000, 0x2000
	for _, tt := range []struct {
		root uint64
		want bool
	}{
		{x, true},
		{y, false},
		{0, true}, // leaving x, perhaps
	} {
		o := &CPU{root: tt.root}
		if got := concerned(o, reqDrop, x, 0, 0); got != tt.want {
			t.Errorf("root %#x: asked to let go of %#x: %v", tt.root, x, got)
		}
		for _, n := range []uint64{1, 0, flushTables, flushTables | 1} {
			if got := concerned(o, reqFlush, x, 0, n); got != tt.want {
				t.Errorf("root %#x: asked to flush %#x of %#x: %v", tt.root, n, x, got)
			}
		}
		if !concerned(o, reqFlush, 0, 0, 1) {
			t.Errorf("root %#x: not asked to flush the kernel's", tt.root)
		}
	}
}

// The assembly says so as well: it loads CR3 and stores CPU.root in one place.
func TestTheAssemblyLoadsATableInOnePlace(t *testing.T) {
	b, err := os.ReadFile("user_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	stores := regexp.MustCompile(`(?m)^\tMOVQ\t\S+, (CPU_root\(GS\)|CR3)`).FindAllString(string(b), -1)
	want := []string{"\tMOVQ\t$0, CPU_root(GS)", "\tMOVQ\tAX, CR3", "\tMOVQ\tAX, CPU_root(GS)"}
	if len(stores) != len(want) {
		t.Fatalf("%q", stores)
	}
	for i, w := range want {
		if stores[i] != w {
			t.Errorf("step %d is %q, want %q", i, stores[i], w)
		}
	}
}
