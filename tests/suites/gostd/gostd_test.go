package gostd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/tests/suites"
	"kiln/tests/suites/jobs"
)

// quick are the packages of make test, and which of their tests: seconds in all.
var quick = map[string]string{"os": "TestRootOpen|TestPipe|TestStat|TestReadDir|TestChown|TestSplice|TestStartProcess", "sync": "TestMutex|TestPool|TestRWMutex"}

// The standard library's tests do on Kiln as a process what they do on Linux: a few, all of
// them in make accept, or the packages that KILN_SUITE names.
func TestPackagesDoAsOnLinux(t *testing.T) {
	packages, run := []string{"os", "sync"}, quick
	if os.Getenv("KILN_ACCEPT") != "" {
		packages, run = Packages, nil
	}
	if s := os.Getenv("KILN_SUITE"); s != "" {
		packages, run = strings.Fields(s), nil
	}
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	ds, err := suites.ReadDifferences(filepath.Join(dir, "differences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range packages {
		t.Run(Unit(pkg), func(t *testing.T) {
			linux, err := suites.ReadUnit(filepath.Join(dir, "linux", Unit(pkg)+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), jobs.OnKiln, pkg, run[pkg])
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Unit) == 0 {
				t.Errorf("no test ran:\n%s", r.Output)
			}
			for _, w := range suites.Compare(Unit(pkg), linux, r.Unit, ds, run[pkg] != "") {
				t.Error(w)
			}
			if t.Failed() {
				t.Logf("%v\n%s", r.Notes, r.Output)
			}
		})
	}
}

// What a test binary says is taken apart: subtests, tests beside each other, one that
// printed before its verdict on the same line, and one that took the binary along.
func TestVerdictsAreRead(t *testing.T) {
	r := &Result{Unit: suites.Unit{}}
	open := r.read("=== RUN   TestA\n=== RUN   TestA/x\n    --- PASS: TestA/x (0.00s)\n--- PASS: TestA (0.10s)\n" +
		"=== RUN   TestB\n    b_test.go:1: why\n--- SKIP: TestB (0.00s)\n=== RUN   TestC\nhello--- FAIL: TestC (0.00s)\n=== RUN   TestD\npanic: x\n")
	want := suites.Unit{"TestA": suites.Pass, "TestA/x": suites.Pass, "TestB": suites.Skip, "TestC": suites.Fail}
	for id, o := range want {
		if r.Unit[id] != o {
			t.Errorf("%s: %q, want %q", id, r.Unit[id], o)
		}
	}
	if len(r.Unit) != len(want) || !slices.Equal(open, []string{"TestD"}) {
		t.Errorf("%v, open %v", r.Unit, open)
	}
	if got := r.done(); got != "^(TestA|TestB|TestC)$" {
		t.Errorf("done is %s", got)
	}
}
