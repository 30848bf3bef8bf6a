package metal

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// absent are the calls of GO-ON-METAL 1.1 that the runtime can do without and the base
// does not have: ENOSYS, by number.
var absent = []string{"12", "27", "38", "41", "42", "63", "222", "223", "226", "269", "293", "302"}

func rows(out, prefix string) (l []string) {
	for _, s := range strings.Split(out, "\n") {
		if strings.HasPrefix(s, prefix) {
			l = append(l, strings.TrimPrefix(s, prefix))
		}
	}
	return l
}

// TestBaseAnswersAsLinux runs the same calls on this host and on the base.
func TestBaseAnswersAsLinux(t *testing.T) {
	k := build(t, "table")
	host := filepath.Join(t.TempDir(), "table")
	cmd := exec.Command("go", "build", "-trimpath", "-o", host, "./table")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, host).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "end of table\n") {
		t.Fatalf("on this host: %v\n%s", err, out)
	}
	want := rows(string(out), "row ")
	if len(want) < 200 {
		t.Fatalf("only %d rows", len(want))
	}
	for m := range machines {
		out := boot(t, k, m, "128")
		if !strings.HasSuffix(out, "end of table\n") {
			t.Errorf("%s: did not run to its end:\n%s", m, out)
		}
		got := rows(out, "row ")
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("%s: %q, Linux %q", m, got[i], want[i])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d rows, Linux has %d", m, len(got), len(want))
		}
		if a := rows(out, "absent "); !slices.Equal(a, absent) {
			t.Errorf("%s: absent calls %v, expected %v", m, a, absent)
		}
	}
}
