package metal

import "testing"

func TestUnwrapFindsTheNearestCount(t *testing.T) {
	for _, c := range []struct{ guess, n, period, want uint64 }{
		{1000, 1003, 1 << 16, 1003},
		{1000, 990, 1 << 16, 990},
		{200000, 200000&0xffff + 5, 1 << 16, 200005},
		{200000, (200000 - 7) & 0xffff, 1 << 16, 199993},
		{65530, 3, 1 << 16, 65539},
		{65540, 65530, 1 << 16, 65530},
		{5, 65535, 1 << 16, 65535}, // never below zero
	} {
		if got := unwrap(c.guess, c.n, c.period); got != c.want {
			t.Errorf("unwrap(%d, %d) = %d, want %d", c.guess, c.n, got, c.want)
		}
	}
}
