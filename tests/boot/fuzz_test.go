package boot

import (
	"os/exec"
	"testing"

	"kiln/tests/vmtest"
)

// Fuzzing finds nothing new: half an hour of programs of system calls, compared with this
// host's Linux, and three minutes of each parser. The tests of tests/fuzz, which everybody
// runs, try a fixed few.
func TestFuzzingFindsNothing(t *testing.T) {
	if !accept {
		t.Skip("more than an hour: in make accept")
	}
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TestRandomProgramsDoAsOnLinux", "TestParsers"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("go", "test", "-count=1", "-v", "-timeout", "3h", "-run", "^"+name+"$", "./tests/fuzz")
			cmd.Dir = root
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
