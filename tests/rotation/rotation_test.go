package rotation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/apps"
	"kiln/capstan/catalogue"
)

func TestEveryEntryHasItsTurn(t *testing.T) {
	for n := 1; n < 40; n++ {
		names := []string{"nginx"}
		for i := 1; i < n; i++ {
			names = append(names, fmt.Sprintf("app%02d", i))
		}
		seen := map[string]bool{}
		// So many runs one after another, from anywhere, and none is left out.
		turns := (n + 4) / (Count - 1)
		for start := range 50 {
			clear(seen)
			for turn := start; turn < start+turns+1; turn++ {
				c := Choose(names, turn)
				if len(c) != min(n, Count) || len(slices.Compact(slices.Clone(c))) != len(c) || !slices.Contains(c, "nginx") {
					t.Fatalf("%d entries, turn %d: %q", n, turn, c)
				}
				for _, x := range c {
					seen[x] = true
				}
			}
			if len(seen) != n {
				t.Fatalf("%d entries, turns %d to %d boot only %d", n, start, start+turns, len(seen))
			}
		}
	}
}

func TestTheChoiceCanBeRepeated(t *testing.T) {
	names := catalogue.New(apps.FS).Names()
	if len(names) < Count {
		t.Fatalf("the catalogue has %d entries", len(names))
	}
	t.Setenv(Env, "7")
	if turn, from := Turn(); turn != 7 || from != Env {
		t.Errorf("turn %d from %s", turn, from)
	}
	if s := Say(names); !strings.Contains(s, strings.Join(Choose(names, 7), ", ")) || !strings.Contains(s, "KILN_ROTATION=7") {
		t.Error(s)
	}
	t.Setenv(Env, "")
	if turn, from := Turn(); turn < 1 || from == Env {
		t.Errorf("turn %d from %s", turn, from)
	}
}
