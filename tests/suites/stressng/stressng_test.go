package stressng

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/tests/suites"
	"kiln/tests/suites/jobs"
)

// quick are stressors of each kind that end at once.
var quick = strings.Fields("access dup fcntl fork futex klog msg pipe pthread sigfd sigq sock splice")

// stress-ng's stressors do on Kiln as a process what they do on Linux: some, all in make
// accept, or those that KILN_SUITE names.
func TestStressorsDoAsOnLinux(t *testing.T) {
	names := quick
	if os.Getenv("KILN_ACCEPT") != "" {
		var err error
		if names, err = Stressors(); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("KILN_SUITE"); s != "" {
		names = strings.Fields(s)
	}
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	ds, err := suites.ReadDifferences(filepath.Join(dir, "differences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	linux, err := suites.ReadUnit(filepath.Join(dir, "linux", Unit+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	here, said, err := Run(t.Context(), jobs.OnKiln, names, func(s string) { t.Error(s) })
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range suites.Compare(Unit, linux, here, ds, true) {
		id, _, _ := strings.Cut(w, ":")
		t.Errorf("%s\n%s", w, said[id].Output)
	}
}
