// Package rotation chooses which entries of the catalogue a quick run of the tests boots:
// some each time, and all of them in a few runs one after another.
package rotation

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/tests/vmtest"
)

// Env repeats a run's choice.
const Env = "KILN_ROTATION"

// Count is how many entries a quick run boots; Always are among them.
const Count = 6

// Always is in every choice: the entry that the README begins with.
var Always = []string{"nginx"}

// Turn is a number that goes up from run to run, with where it comes from: $KILN_ROTATION,
// else the number of commits, else (in a shallow clone, which has one) the day.
func Turn() (n int, from string) {
	if s := os.Getenv(Env); s != "" {
		if n, err := strconv.Atoi(s); err == nil && n >= 0 {
			return n, Env
		}
	}
	if root, err := vmtest.Root(); err == nil {
		if git(root, "rev-parse", "--is-shallow-repository") == "false" {
			if n, err := strconv.Atoi(git(root, "rev-list", "--count", "HEAD")); err == nil {
				return n, "the number of commits"
			}
		}
	}
	return int(time.Now().Unix() / 86400), "the day"
}

func git(dir string, args ...string) string {
	out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// Choose takes Always and, of the other names, the next ones at each turn.
func Choose(names []string, turn int) []string {
	var out, rest []string
	for _, n := range names {
		if slices.Contains(Always, n) {
			out = append(out, n)
		} else {
			rest = append(rest, n)
		}
	}
	more := min(max(0, Count-len(out)), len(rest))
	for i := range more {
		out = append(out, rest[(turn%len(rest)*more+i)%len(rest)])
	}
	slices.Sort(out)
	return out
}

// Say describes a choice.
func Say(names []string) string {
	turn, from := Turn()
	return fmt.Sprintf("catalogue: %s, of %d entries: turn %d (%s); %s=%d repeats it, make accept boots all",
		strings.Join(Choose(names, turn), ", "), len(names), turn, from, Env, turn)
}
