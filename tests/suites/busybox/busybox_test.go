package busybox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/tests/suites"
	"kiln/tests/suites/jobs"
)

// quick are applets of each kind that end at once.
var quick = strings.Fields("ash chmod dd find kill mknod mount mv stat")

// busybox's applets print on Kiln as a process what they print on Linux: some, all in make
// accept, or those that KILN_SUITE names.
func TestAppletsDoAsOnLinux(t *testing.T) {
	names := quick
	if os.Getenv("KILN_ACCEPT") != "" {
		names = nil
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
	said, err := Recorded()
	if err != nil {
		t.Fatal(err)
	}
	here, err := Run(t.Context(), jobs.OnKiln, Named(names), func(s string) { t.Error(s) })
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range suites.Compare(Unit, linux, Judge(here, said), ds, true) {
		id, _, _ := strings.Cut(w, ":")
		t.Errorf("%s\n%s", w, Diff(said[id], here[id]))
	}
}
