package metal

import "testing"

func TestWhichCPUsAreStarted(t *testing.T) {
	// Ids from first on, step apart, as firmware lists them.
	ids := func(n, first, step uint32) []uint32 {
		l := make([]uint32, n)
		for i := range l {
			l[i] = first + uint32(i)*step
		}
		return l
	}
	for _, tt := range []struct {
		name            string
		ids             []uint32
		self            uint32
		x2, has         bool
		n, over, beyond uint32
		on              bool
	}{
		{"one", ids(1, 0, 1), 0, false, true, 0, 0, 0, false},
		{"four", ids(4, 0, 1), 2, false, true, 3, 0, 0, false},
		{"as many as there is room for", ids(64, 0, 1), 0, false, true, 63, 0, 0, false},
		{"too many", ids(70, 0, 1), 0, false, true, 63, 6, 0, false},
		{"too many, we being the last", ids(65, 0, 1), 64, false, true, 63, 2, 0, false},
		{"ids that need x2APIC", ids(4, 252, 1), 252, false, true, 3, 0, 0, true},
		{"it is on", ids(4, 252, 1), 252, true, true, 3, 0, 0, false},
		{"there is none", ids(4, 252, 1), 252, false, false, 2, 0, 1, false},
		{"the one that needs it has no room", append(ids(64, 0, 1), 300), 0, false, true, 63, 1, 0, false},
	} {
		l := idList{}
		for _, id := range append(tt.ids, tt.ids[0]) { // as type 0 and as type 9
			l.add(id)
		}
		beyond, on := l.choose(tt.self, tt.x2, tt.has)
		if l.n != tt.n || l.over != tt.over || beyond != tt.beyond || on != tt.on {
			t.Errorf("%s: %d started, %d too many, %d beyond reach, switched on %v", tt.name, l.n, l.over, beyond, on)
		}
		seen := map[uint32]bool{tt.self: true}
		for _, id := range l.id[:l.n] {
			if seen[id] {
				t.Errorf("%s: %d twice", tt.name, id)
			}
			seen[id] = true
		}
	}
}
