package python

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/tests/suites"
)

// quick are the modules of make test, on one machine.
var quick = []string{"test_select", "test_fcntl", "test_epoll"}

// limit is for a module; those of multiprocessing take minutes on Linux too.
const limit = 40 * time.Minute

// CPython's tests do on Kiln as a process what they do on Linux: a few modules, all in
// make accept, or those of KILN_SUITE.
func TestModulesDoAsOnLinux(t *testing.T) {
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	ds, err := suites.ReadDifferences(filepath.Join(dir, "differences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "image")
	if err := Bake(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	modules, runs := quick, map[string]*Run{}
	if s := os.Getenv("KILN_SUITE"); s != "" {
		modules = strings.Fields(s)
	} else if os.Getenv("KILN_ACCEPT") != "" {
		modules = Modules
	} else {
		runs = hosted(t, img, quick...)
	}
	for _, m := range modules {
		t.Run(m, func(t *testing.T) {
			linux, err := Recording(m)
			if err != nil {
				t.Fatal(err)
			}
			r := runs[m]
			if r == nil {
				r = hosted(t, img, m)[m]
			}
			if r == nil || !r.Ended {
				t.Fatalf("it did not come to its end: %+v", r)
			}
			if again := failures(linux, r.Unit, ds, m); len(again) > 0 {
				// Many have a fraction of a second for what a busy host takes longer for.
				second := hosted(t, img, m+":"+strings.Join(again, ":"))[m]
				for id, o := range second.Unit {
					if o == suites.Pass {
						t.Logf("%s passed alone: %s", id, r.Details[id])
						r.Unit[id] = o
					}
				}
			}
			for _, w := range suites.Compare(m, linux, r.Unit, ds, false) {
				t.Error(w)
			}
			if t.Failed() {
				for _, id := range slices.Sorted(maps.Keys(r.Details)) {
					if linux[id] == suites.Pass && r.Unit[id] != suites.Pass {
						t.Logf("%s: %s", id, r.Details[id])
					}
				}
			}
		})
	}
}

// hosted runs modules on a machine of their own.
func hosted(t *testing.T, img string, modules ...string) map[string]*Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	runs, err := Hosted(ctx, img, modules...)
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// failures are the tests that should have passed, at most a few, as patterns.
func failures(linux, here suites.Unit, ds []suites.Difference, module string) (ids []string) {
	for id, o := range here {
		if linux[id] == suites.Pass && o == suites.Fail && suites.Explained(ds, module, id) == nil {
			ids = append(ids, "test."+id)
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), 20)]
}
