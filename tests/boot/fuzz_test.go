package boot

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"kiln/tests/fuzztargets"
	"kiln/tests/vmtest"
)

// fuzzHour is the share of an hour that make accept, which runs each case three times (for
// one, two and four CPUs), fuzzes at a time.
const fuzzHour = time.Hour / 3

// Fuzzing finds nothing new: half of the time on programs of system calls, new ones each time,
// compared with this host's Linux, and half on the targets that read what others wrote. What
// make test does: tests/fuzz tries a fixed few programs, and tests/cmd/runtests the targets
// for twenty seconds each.
func TestFuzzingFindsNothing(t *testing.T) {
	if !accept {
		t.Skip("twenty minutes: in make accept")
	}
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("programs", func(t *testing.T) {
		cmd := exec.Command("go", "test", "-count=1", "-v", "-timeout", "2h", "-run", "^(TestRandomProgramsDoAsOnLinux|TestEveryKindOfDescriptorDoesAsOnLinux)$", "./tests/fuzz")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "KILN_FUZZ_TIME="+(fuzzHour/2).String())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
	})
	list, err := fuzztargets.List(root)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d targets, %v", len(list), err)
	}
	for _, c := range list {
		t.Run(c.String(), func(t *testing.T) {
			r := fuzztargets.Run(t.Context(), c, fuzztargets.Options{Root: root, Time: fuzzHour / 2 / time.Duration(len(list))})
			if r.Err != nil || r.Execs == 0 {
				t.Errorf("%d inputs: %v", r.Execs, r.Err)
			}
			t.Logf("%d inputs", r.Execs)
		})
	}
}
