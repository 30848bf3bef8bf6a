package conformance

import (
	"fmt"
	"strings"
	"sync"

	"kiln/syscalls"
)

// Diff shows the lines that differ, by longest common subsequence where the texts
// are short enough and line by line else; "" if there are none.
func Diff(want, got string) string {
	if want == got {
		return ""
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	// lcs[i][j] is the length for a[i:], b[j:].
	lcs := make([][]int32, len(a)+1)
	for i := range lcs {
		lcs[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				lcs[i][j] = lcs[i+1][j+1] + 1
			} else {
				lcs[i][j] = max(lcs[i+1][j], lcs[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && lcs[i+1][j] >= lcs[i][j+1]:
			fmt.Fprintf(&out, "- %s\n", a[i])
			i++
		default:
			fmt.Fprintf(&out, "+ %s\n", b[j])
			j++
		}
	}
	return out.String()
}

// unimplemented are the calls that the table owns up to not having.
var unimplemented = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	for _, e := range syscalls.Table() {
		if e.Support == syscalls.None {
			m[e.Name] = true
		}
	}
	return m
})

// deviations are the lines where Kiln does better than Linux on purpose.
var deviations = map[string]string{
	// A stream's bytes that were copied before the fault are not lost: the call says
	// how many there were, as it does on a regular file.
	"read socket argument 2 edge: EFAULT": "read socket argument 2 edge: ok",
	"recvfrom argument 2 edge: EFAULT":    "recvfrom argument 2 edge: ok",
}

// Excuse replaces what Linux says of a system call that Kiln does not have by what
// Kiln must say: ENOSYS. Only lines that name the call are touched:
// `name argument …: E…` and `syscall(SYS_name, …) = …`.
func Excuse(golden string) string {
	missing := func(call string) bool { return unimplemented()[call] }
	lines := strings.Split(golden, "\n")
	for i, l := range lines {
		if ours, ok := deviations[l]; ok {
			lines[i] = ours
		} else if rest, ok := strings.CutPrefix(l, "syscall(SYS_"); ok {
			if name, _, _ := strings.Cut(rest, ","); missing(name) {
				lines[i] = l[:strings.LastIndex(l, " = ")] + " = -1 ENOSYS"
			}
		} else if name, _, ok := strings.Cut(l, " argument "); ok && missing(strings.Fields(name)[0]) {
			lines[i] = l[:strings.LastIndex(l, ": ")] + ": ENOSYS"
		}
	}
	return strings.Join(lines, "\n")
}
