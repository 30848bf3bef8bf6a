package hosted

import (
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
	"kiln/kernel/task"
	"kiln/kernel/wait"
	"kiln/syscalls"
	"kiln/tests/conformance"
)

// seen is what a case used: by an entry's key, whether in a call that succeeded, and in one
// that failed.
type seen struct {
	mu      sync.Mutex
	entries map[string][2]bool
}

// observe notes which entries of masks.txt a call uses and what came of it.
func (s *seen) observe(t *task.Thread, name string, a syscalls.Args) func(error) {
	var used []*conformance.Mask
	read := func(at uint64, b []byte) bool { return t.CopyIn(b, hal.UserAddr(at)) == nil }
	for _, m := range conformance.Masks()[name] {
		if m.In(a, read) {
			used = append(used, m)
		}
	}
	return func(err error) {
		k := 0
		switch err {
		case nil:
		case wait.ErrRestartNoHnd:
			k = 1 // EINTR, unless nobody has a handler
		case wait.ErrRestart, wait.ErrRestartNoInt, wait.ErrRestartBlock, unix.ENOSYS:
			return // not over, or not there
		default:
			k = 1
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range used {
			e := s.entries[m.Key()]
			e[k] = true
			s.entries[m.Key()] = e
		}
	}
}

// look runs a case and says what it used; a run that differs from Linux is an error.
func look(t *testing.T, c conformance.Case, without ...string) (map[string][2]bool, error) {
	want, err := conformance.Golden(c.Name)
	if err != nil {
		return nil, err
	}
	s := &seen{entries: map[string][2]bool{}}
	r := start(t, c)
	r.Without = without
	if without == nil {
		r.Observe = s.observe
		want = conformance.Excuse(want)
	} else {
		r.Limit = 10 * time.Second
	}
	res, err := r.Do()
	if d := conformance.Diff(want, conformance.Text(res.Output, res.Status)); err == nil && d != "" {
		err = fmt.Errorf("%s differs from Linux:\n%s", c.Name, d)
	}
	return s.entries, err
}

// claims are what covered.txt says of each case: "KEY 0" that it uses an entry in a call
// that succeeds, "KEY 1" in one that fails.
var claims = sync.OnceValue(func() map[string][]string {
	m := map[string][]string{}
	for key, c := range conformance.Covered() {
		m[c.Success] = append(m[c.Success], key+" 0")
		m[c.Error] = append(m[c.Error], key+" 1")
	}
	return m
})

// covers checks what covered.txt says of a case that has run.
func covers(t *testing.T, c conformance.Case, s *seen) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, claim := range claims()[c.Name] {
		i := len(claim) - 2
		if e := s.entries[claim[:i]]; !e[claim[i+1]-'0'] {
			t.Errorf("does not use %s (0: success, 1: error): write covered.txt anew with KILN_COVER=1", claim)
		}
	}
}

// A case covers a call's flags only if it notices that the call is missing.
func TestCasesThatCoverNoticeThatTheirCallsAreMissing(t *testing.T) {
	if os.Getenv("KILN_COVER") != "" {
		writeCovered(t)
		return
	}
	if raceDetector {
		t.Skip("about the cases, not about races")
	}
	all := os.Getenv("KILN_ACCEPT") != ""
	var l []item
	for _, c := range conformance.Cases() {
		calls := map[string]bool{}
		for _, claim := range claims()[c.Name] {
			call, _, _ := strings.Cut(claim, " ")
			calls[call] = true
		}
		for _, call := range slices.Sorted(maps.Keys(calls)) {
			if !all && !sampled(c.Name+call) {
				continue
			}
			l = append(l, item{c.Name + "/" + call, func(t *testing.T) {
				if _, err := look(t, c, call); err == nil {
					t.Errorf("says the same without %s", call)
				}
			}})
		}
	}
	inParts(t, manyParts, l)
}

// sampled picks one in sixteen: what make test looks at of what KILN_ACCEPT=1 looks at whole.
func sampled(s string) bool {
	h := fnv.New32()
	h.Write([]byte(s))
	return h.Sum32()%16 == 0
}

// writeCovered (KILN_COVER=all, or the names of cases and families to look for more in)
// finds for each entry of masks.txt a case that uses it in a call that
// succeeds and one where it fails, of those that notice when the call is missing.
func writeCovered(t *testing.T) {
	type user struct {
		c       conformance.Case
		entries map[string][2]bool
	}
	// One after the other: machines of one process have been seen to mix their output up.
	var users []user
	cases := conformance.Cases()
	if l := os.Getenv("KILN_COVER"); l != "all" {
		cases = conformance.Named(strings.Split(l, ","))
	}
	runs := make([]map[string][2]bool, len(cases))
	for i := range cases {
		var err error
		if runs[i], err = look(t, cases[i]); err != nil {
			t.Logf("%s: %v", cases[i].Name, err)
			runs[i] = nil
		}
	}
	for i, c := range cases {
		if runs[i] != nil {
			users = append(users, user{c, runs[i]})
		}
	}
	notices := map[string]bool{}
	notice := func(c conformance.Case, call string) bool {
		k := c.Name + " " + call
		v, ok := notices[k]
		if !ok {
			_, err := look(t, c, call)
			v = err != nil
			notices[k] = v
		}
		return v
	}
	var lines []string
	calls := slices.Sorted(maps.Keys(conformance.Masks()))
	for _, call := range calls {
		masks := conformance.Masks()[call]
		// What names the call goes first, then what covers most.
		l := slices.Clone(users)
		count := func(u user) (n int) {
			if slices.Contains(u.c.Calls, call) {
				n = 1000
			}
			for _, m := range masks {
				e := u.entries[m.Key()]
				for _, v := range e {
					if v {
						n++
					}
				}
			}
			return n
		}
		sort.SliceStable(l, func(i, j int) bool { return count(l[i]) > count(l[j]) })
		find := func(key string, k int) string {
			for _, u := range l {
				if u.entries[key][k] && notice(u.c, call) {
					return u.c.Name
				}
			}
			return ""
		}
		for _, m := range masks {
			if m.Absent != "" {
				continue
			}
			old := conformance.Covered()[m.Key()]
			if os.Getenv("KILN_COVER") == "all" {
				old = conformance.Cover{}
			}
			s, e := old.Success, old.Error
			if s == "" || s == "-" {
				s = find(m.Key(), 0)
			}
			if e == "" || e == "-" {
				e = find(m.Key(), 1)
			}
			if m.NoSuccess && s == "" {
				s = "-"
			}
			if m.NoError && e == "" {
				e = "-"
			}
			if s == "" && e == "" {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s %s %s\n", m.Key(), or(s, "?"), or(e, "?")))
		}
	}
	sort.Strings(lines)
	text := "# entry of masks.txt, a case where it succeeds, a case where it fails; written by\n" +
		"# KILN_COVER=1 go test ./tests/hosted -run TestCasesThatCover\n" + strings.Join(lines, "")
	if err := os.WriteFile("../conformance/covered.txt", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries covered", len(lines))
}

func or(s, none string) string {
	if s == "" {
		return none
	}
	return s
}
