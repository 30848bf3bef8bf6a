package system

import (
	"maps"
	"slices"
	"testing"

	"kiln/kernel/image"
)

func TestThePackagerKnowsTheSameLimits(t *testing.T) {
	if got := slices.Sorted(maps.Keys(limitNames)); !slices.Equal(got, slices.Sorted(slices.Values(image.LimitNames))) {
		t.Errorf("%q", got)
	}
}
