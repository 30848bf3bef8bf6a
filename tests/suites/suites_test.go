package suites

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestADifferenceNeedsAReasonAndEndsWithIt(t *testing.T) {
	linux := Unit{"a": Pass, "b": Pass, "c": Fail, "d": Skip, "e": Pass}
	here := Unit{"a": Pass, "b": Fail, "c": Fail, "d": Skip}
	if got, want := Compare("u", linux, here, nil, false), []string{"b: fail here, passes on Linux", "e: not run here, passes on Linux"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Compare("u", linux, here, nil, true); len(got) != 1 {
		t.Errorf("of a part: %q", got)
	}
	ds := []Difference{{Unit: "u", ID: "[be]", Outcome: Fail, Reason: "of a kind"}}
	if got := Compare("u", linux, here, ds, false); len(got) != 0 {
		t.Errorf("with a reason: %q", got)
	}
	here["b"], here["e"] = Pass, Pass
	if got := Compare("u", linux, here, ds, false); len(got) != 1 {
		t.Errorf("a difference that is none any more: %q", got)
	}
	ds[0].Now = true
	if got := Compare("u", linux, here, ds, false); len(got) != 0 {
		t.Errorf("one of now and then: %q", got)
	}
}

func TestSumsComeFromTheTree(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "linux"), 0o755)
	if err := (Unit{"a b": Pass, "c": Pass, "d": Fail, "e": Skip, "f": Pass}).Write(filepath.Join(dir, "linux", "u.txt")); err != nil {
		t.Fatal(err)
	}
	write := func(s string) { os.WriteFile(filepath.Join(dir, "differences.txt"), []byte(s), 0o644) }
	write("# why\n\nu fail a b: it is: so\nu skip? c: now and then\n")
	all, err := Read(dir)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	s := all[0]
	if s.Unit != "u" || s.Executed != 4 || s.Passed != 3 || s.ExecutedHere != 3 || s.PassedHere != 1 || len(s.Differences) != 2 || s.Differences[0].Reason != "it is: so" {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{"u fail zz: about no test\n", "u a: b\n", "u hang a b: no such outcome\n", "u fail a b\n"} {
		if write(bad); true {
			if _, err := Read(dir); err == nil {
				t.Errorf("%q is taken", bad)
			}
		}
	}
}
