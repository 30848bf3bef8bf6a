package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAVerdictOnKVMHoldsForItsTimeOnly(t *testing.T) {
	const slow = "KVM here is slow (25ms for what a CPU does in 3 ms)"
	file := filepath.Join(t.TempDir(), "cache", "kvm")
	if got := keptVerdict(file); got != "" {
		t.Errorf("no file: %q", got)
	}
	for _, c := range []struct {
		text string
		age  time.Duration
		want string
	}{
		{fast, 0, fast}, {fast, 23 * time.Hour, fast}, {fast, 25 * time.Hour, ""},
		{slow, 0, slow}, {slow, 5 * time.Minute, slow}, {slow, time.Hour, ""}, {"", 0, ""},
	} {
		keepVerdict(file, c.text)
		then := time.Now().Add(-c.age)
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
		if got := keptVerdict(file); got != c.want {
			t.Errorf("%q after %v: %q", c.text, c.age, got)
		}
	}
}

// Readers find the old verdict or the new one.
func TestAVerdictOnKVMIsReplacedAsAWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kvm")
	keepVerdict(file, "slow")
	old, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	keepVerdict(file, fast)
	b := make([]byte, 16)
	if k, _ := old.Read(b); string(b[:k]) != "slow" || keptVerdict(file) != fast {
		t.Errorf("it was %q and is %q", b[:k], keptVerdict(file))
	}
	if list, _ := os.ReadDir(filepath.Dir(file)); len(list) != 1 {
		t.Errorf("%v", list)
	}
	keepVerdict("/proc/nothing/kvm", fast) // nowhere to write
}
