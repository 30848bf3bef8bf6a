package fuzz

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kiln/tests/vmtest"
)

var reTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// targets are the fuzz targets of the tree as package and name.
func targets(t *testing.T, root string) (out [][2]string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		b, err := os.ReadFile(name)
		for _, m := range reTarget.FindAllSubmatch(b, -1) {
			rel, _ := filepath.Rel(root, filepath.Dir(name))
			out = append(out, [2]string{"./" + rel, string(m[1])})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Each parser's fuzz target finds nothing: in make accept, for three minutes each. Their
// seeds, and what was found (testdata/fuzz of the package), run with the package's tests.
// KILN_FUZZ_TARGET=NAME runs one, for KILN_FUZZ_TIME.
func TestParsers(t *testing.T) {
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	list := targets(t, root)
	if len(list) < 12 {
		t.Fatalf("only %d fuzz targets: %v", len(list), list)
	}
	one, d := os.Getenv("KILN_FUZZ_TARGET"), os.Getenv("KILN_FUZZ_TIME")
	if d == "" {
		d = "3m"
	}
	if one == "" && os.Getenv("KILN_ACCEPT") == "" {
		t.Skip("in make accept: building a package for fuzzing takes a minute")
	}
	for _, c := range list {
		if one != "" && one != c[1] && one != c[0]+"."+c[1] {
			continue
		}
		t.Run(strings.TrimPrefix(c[0], "./")+"/"+c[1], func(t *testing.T) {
			cmd := exec.Command("go", "test", "-run", "^$", "-fuzz", fmt.Sprintf("^%s$", c[1]), "-fuzztime", d, c[0])
			cmd.Dir = root
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
