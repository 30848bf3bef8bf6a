package boot

import (
	"os/exec"
	"testing"

	"kiln/tests/vmtest"
)

// CPython's own tests do as on Linux, every module; tests/suites runs a few in make test.
func TestCPythonsTestsDoAsOnLinux(t *testing.T) {
	if !accept {
		t.Skip("an hour: in make accept")
	}
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-count=1", "-v", "-timeout", "170m", "-run", "^TestModulesDoAsOnLinux$", "./tests/suites/python")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
