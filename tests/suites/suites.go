// Package suites compares test suites of others, as Debian packages them, between Linux
// and Kiln.
//
// A suite is a folder below this one. It runs in units (a module, a package, an applet),
// and a unit gives an outcome for each test id. linux/UNIT.txt is what Linux made of them,
// recorded by a command of the suite's; differences.txt names each test that Linux
// passes and Kiln does not, with the reason. docs/abi.md gets the sums.
package suites

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Outcome is how a test ended.
type Outcome string

// A test that hung or took its process along has failed.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
)

// Unit is the outcome of each test by id, which has no line breaks.
type Unit map[string]Outcome

// ReadUnit reads a recording, a line a test: outcome, space, id.
func ReadUnit(file string) (Unit, error) {
	u := Unit{}
	return u, lines(file, func(line string) error {
		o, id, ok := strings.Cut(line, " ")
		if !ok || o != string(Pass) && o != string(Fail) && o != string(Skip) {
			return fmt.Errorf("%s: %q is no outcome", file, line)
		}
		u[id] = Outcome(o)
		return nil
	})
}

// Write makes a recording.
func (u Unit) Write(file string) error {
	var list []string
	for id, o := range u {
		list = append(list, string(o)+" "+id+"\n")
	}
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(a[5:], b[5:]) })
	return os.WriteFile(file, []byte(strings.Join(list, "")), 0o644)
}

// lines calls fn with each line that is neither empty nor a comment.
func lines(file string, fn func(string) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if l := sc.Text(); l != "" && l[0] != '#' {
			if err := fn(l); err != nil {
				return err
			}
		}
	}
	return sc.Err()
}

// Difference is a test, or all that match a pattern (path.Match), that does not pass here.
type Difference struct {
	Unit, ID string
	Outcome  Outcome // fail or skip here
	Now      bool    // only now and then
	Reason   string
}

// ReadDifferences reads differences.txt: "UNIT OUTCOME ID: REASON", where OUTCOME is
// fail or skip, with a ? behind it for a test that passes at other times.
func ReadDifferences(file string) ([]Difference, error) {
	var ds []Difference
	err := lines(file, func(line string) error {
		head, reason, ok := strings.Cut(line, ": ")
		f := strings.SplitN(head, " ", 3)
		if !ok || len(f) != 3 || reason == "" {
			return fmt.Errorf("%s: %q has no unit, outcome, test and reason", file, line)
		}
		o, now := strings.CutSuffix(f[1], "?")
		if o != string(Fail) && o != string(Skip) {
			return fmt.Errorf("%s: %q is no outcome", file, f[1])
		}
		ds = append(ds, Difference{Unit: f[0], ID: f[2], Outcome: Outcome(o), Now: now, Reason: reason})
		return nil
	})
	return ds, err
}

// Explained is the difference that explains a test, nil if there is none.
func Explained(ds []Difference, unit, id string) *Difference {
	for i := range ds {
		if d := &ds[i]; d.Unit == unit && (d.ID == id || match(d.ID, id)) {
			return d
		}
	}
	return nil
}

func match(pattern, id string) bool {
	ok, _ := path.Match(pattern, id)
	return ok
}

// Compare says what is wrong with a run here of a unit (of the tests that ran in it only,
// if part is set): a test that passed on Linux and not here without a difference that
// says so, and a difference that is none any more.
func Compare(unit string, linux, here Unit, ds []Difference, part bool) (wrong []string) {
	for id, o := range linux {
		h, ran := here[id]
		if o != Pass || h == Pass || part && !ran {
			continue
		}
		if d := Explained(ds, unit, id); d == nil || ran && d.Outcome != h && d.Outcome != Fail {
			if !ran {
				h = "not run"
			}
			wrong = append(wrong, fmt.Sprintf("%s: %s here, passes on Linux", id, h))
		}
	}
	for _, d := range ds {
		passes, not := 0, 0
		for id, o := range here {
			if d.Unit != unit || d.Now || linux[id] != Pass || d.ID != id && !match(d.ID, id) {
				continue
			}
			if o == Pass {
				passes++
			} else {
				not++
			}
		}
		if passes > 0 && not == 0 {
			wrong = append(wrong, fmt.Sprintf("%s: passes, though differences.txt has it: %s", d.ID, d.Reason))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// Sums are a unit's numbers.
type Sums struct {
	Unit                     string
	Executed, Passed         int // on Linux
	ExecutedHere, PassedHere int // of these
	Differences              []Difference
}

// Read gives the sums of all units of a suite and its differences, from what is in the tree.
func Read(dir string) ([]Sums, error) {
	ds, err := ReadDifferences(filepath.Join(dir, "differences.txt"))
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "linux", "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []Sums
	for _, f := range files {
		u, err := ReadUnit(f)
		if err != nil {
			return nil, err
		}
		all = append(all, u.sums(strings.TrimSuffix(filepath.Base(f), ".txt"), ds))
	}
	for _, d := range ds {
		if !slices.ContainsFunc(all, func(s Sums) bool { return slices.Contains(s.Differences, d) }) {
			return nil, fmt.Errorf("%s: %s %s is about no test that passes on Linux", dir, d.Unit, d.ID)
		}
	}
	return all, nil
}

func (u Unit) sums(unit string, ds []Difference) Sums {
	s := Sums{Unit: unit}
	for id, o := range u {
		if o == Skip {
			continue
		}
		s.Executed++
		s.ExecutedHere++
		if o == Pass {
			s.Passed++
			s.PassedHere++
		}
		d := Explained(ds, unit, id)
		if d == nil {
			continue
		}
		if d.Outcome == Skip {
			s.ExecutedHere--
		}
		if o == Pass {
			s.PassedHere--
		}
		if !slices.Contains(s.Differences, *d) {
			s.Differences = append(s.Differences, *d)
		}
	}
	slices.SortFunc(s.Differences, func(a, b Difference) int { return strings.Compare(a.ID, b.ID) })
	return s
}
