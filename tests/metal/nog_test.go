package metal

import (
	"bufio"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// What base code must never reach: it runs on a g that has no M with a P. Stack
// checks (morestack) and bounds checks (panicIndex and its kin) are allowed: they
// fire only for a bug, and then end in nestedSyscall's report, not in silence.
var forbidden = regexp.MustCompile(`^runtime\.(gcWriteBarrier|wbMove|wbZero|bulkBarrier|newobject|mallocgc|makeslice|growslice|makemap|map[a-z]|chan|select|gopark|goready|deferproc|deferreturn|conv|concat|slicebytetostring|stringtoslicebyte|gopanic|panicdottype|assert|typedmemmove|newproc|lock|unlock|systemstack|mcall|entersyscall|ifaceeq|efaceeq)|^(sync|os|fmt|syscall|internal/poll|strings)\.`)

// The base's entries from assembly.
var entries = []string{"trap", "baseOp", "fatalTrap", "nestedSyscall", "apMain"}

// TestBaseNeedsNoG walks the calls in the built kernel from the base's entries.
func TestBaseNeedsNoG(t *testing.T) {
	k := build(t, "ring3")
	out, err := exec.Command("go", "tool", "objdump", k+".elf").Output()
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string][]string{}
	cur := ""
	target := regexp.MustCompile(`\t(CALL|JMP) ([^ \t]+)\(SB\)`)
	sc := bufio.NewScanner(strings.NewReader(string(out)))
	for sc.Scan() {
		l := sc.Text()
		if strings.HasPrefix(l, "TEXT ") {
			cur = strings.TrimSuffix(strings.Fields(l)[1], "(SB)")
			continue
		}
		if m := target.FindStringSubmatch(l); m != nil && m[2] != cur {
			calls[cur] = append(calls[cur], m[2])
		} else if strings.Contains(l, "\tCALL ") && strings.HasPrefix(cur, "kiln/kernel/metal") && !strings.HasSuffix(cur, ".abi0") {
			calls[cur] = append(calls[cur], "indirect")
		}
	}
	const pkg = "kiln/kernel/metal."
	seen := map[string]string{}
	var todo []string
	for _, e := range entries {
		if calls[pkg+e] == nil {
			t.Errorf("entry %s is not in the kernel", e)
		}
		seen[pkg+e] = ""
		todo = append(todo, pkg+e)
	}
	for len(todo) > 0 {
		f := todo[0]
		todo = todo[1:]
		for _, c := range calls[f] {
			if forbidden.MatchString(c) || c == "indirect" {
				path := f
				for p := seen[f]; p != ""; p = seen[p] {
					path = p + " > " + path
				}
				t.Errorf("%s calls %s", path, c)
				continue
			}
			if _, ok := seen[c]; ok || !strings.HasPrefix(c, "kiln/") {
				continue
			}
			seen[c] = f
			todo = append(todo, c)
		}
	}
	if len(seen) < 60 {
		t.Errorf("only %d functions walked: the check has gone blind", len(seen))
	}
}
