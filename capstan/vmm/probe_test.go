package vmm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"kiln/capstan/vmm/vmmtest"
)

func TestMain(m *testing.M) {
	vmmtest.Main()
	ProbeMain()
	os.Exit(m.Run())
}

func TestKVMIsMeasuredWithinItsTime(t *testing.T) {
	start := time.Now()
	ok, why, _ := MeasureKVM(context.Background())
	if d := time.Since(start); d > time.Second {
		t.Errorf("the measurement took %v", d)
	}
	if ok != (why == "") {
		t.Errorf("%v without its reason: %q", ok, why)
	}
	t.Log(ok, why)
}

func TestSlowOrBrokenKVMIsNotUsed(t *testing.T) {
	for _, c := range []struct {
		out  string
		err  error
		ok   bool
		want string
	}{
		{"1.2ms", nil, true, ""},
		{"150ms", nil, false, "slow"},
		{"garbage", nil, false, "measured"},
		{"the test machine stopped with KVM's exit reason 17", errors.New("exit status 1"), false, "reason 17"},
		{"", errors.New("signal: segmentation fault"), false, "segmentation"},
	} {
		if ok, why := judge(c.out, c.err); ok != c.ok || !strings.Contains(why, c.want) {
			t.Errorf("%q %v: %v %q", c.out, c.err, ok, why)
		}
	}
}
