package catalogue

import (
	"errors"
	"io/fs"
	"testing"

	"kiln/apps"
)

func TestEveryEntryLoadsAndHasASmokeTest(t *testing.T) {
	c := New(apps.FS)
	names := c.Names()
	if len(names) < 7 {
		t.Fatalf("only %v", names)
	}
	for _, name := range names {
		m, err := c.Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if m.Name != name || m.About == "" || len(m.Smoke) == 0 {
			t.Errorf("%s: name %q, about %q, %d smoke tests", name, m.Name, m.About, len(m.Smoke))
		}
		if m.Build == nil && len(m.Packages) == 0 {
			t.Errorf("%s cannot be baked where it is not installed", name)
		}
		for _, f := range m.Files {
			if f.From != "" {
				if _, err := fs.Stat(m.Dir, f.From); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	for _, name := range []string{"nosuch", "../apps", "/nginx", ""} {
		if _, err := c.Load(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestTyposFindTheirName(t *testing.T) {
	names := []string{"nginx", "redis", "memcached", "run", "build"}
	for typed, want := range map[string]string{"ngnix": "nginx", "nginxx": "nginx", "memcache": "memcached", "rnu": "run", "zzzzzz": "", "postgres": ""} {
		if got := Closest(typed, names); got != want {
			t.Errorf("%s: %q, want %q", typed, got, want)
		}
	}
}
