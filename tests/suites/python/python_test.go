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

// quick are the modules of make test, a few seconds each.
var quick = []string{"test_select", "test_fcntl", "test_resource"}

// limit is for a module; those of multiprocessing take minutes on Linux too.
const limit = 30 * time.Minute

// CPython's tests do on Kiln as a process what they do on Linux: a few modules, all in
// make accept, or those of KILN_SUITE.
func TestModulesDoAsOnLinux(t *testing.T) {
	modules := quick
	if os.Getenv("KILN_ACCEPT") != "" {
		modules = Modules
	}
	if s := os.Getenv("KILN_SUITE"); s != "" {
		modules = strings.Fields(s)
	}
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
	for _, m := range modules {
		t.Run(m, func(t *testing.T) {
			linux, err := suites.ReadUnit(filepath.Join(dir, "linux", m+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			r, err := Hosted(ctx, img, m)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Ended {
				t.Errorf("it did not come to its end: %s", r.Log)
			}
			for _, w := range suites.Compare(m, linux, r.Unit, ds, false) {
				t.Error(w)
			}
			if t.Failed() {
				for _, id := range slices.Sorted(maps.Keys(r.Details)) {
					if linux[id] == suites.Pass {
						t.Logf("%s: %s", id, r.Details[id])
					}
				}
			}
		})
	}
}
