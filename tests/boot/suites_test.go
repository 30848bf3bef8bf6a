package boot

import (
	"os/exec"
	"path/filepath"
	"testing"

	"kiln/tests/vmtest"
)

// CPython's own tests do as on Linux, every module; tests/suites runs a few in make test.
func TestCPythonsTestsDoAsOnLinux(t *testing.T) { suite(t, "TestModulesDoAsOnLinux", "python") }

// So do those of Go's standard library, stress-ng's stressors and busybox's applets.
func TestGosTestsDoAsOnLinux(t *testing.T)        { suite(t, "TestPackagesDoAsOnLinux", "gostd") }
func TestEveryStressorDoesAsOnLinux(t *testing.T) { suite(t, "TestStressorsDoAsOnLinux", "stressng") }
func TestEveryAppletDoesAsOnLinux(t *testing.T)   { suite(t, "TestAppletsDoAsOnLinux", "busybox") }

// The kernel's locks are taken in one order in all that the conformance suite and the tests
// of its packages do.
func TestTheKernelsLocksHaveOneOrder(t *testing.T) {
	goTest(t, "TestTheKernelsLocksHaveOneOrder", "lockorder")
}

// suite runs a suite whole.
func suite(t *testing.T, name, folder string) {
	t.Helper()
	goTest(t, name, filepath.Join("suites", folder))
}

// goTest runs a test of a folder of tests whole.
func goTest(t *testing.T, name, folder string) {
	t.Helper()
	if !accept {
		t.Skip("up to an hour: in make accept")
	}
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-count=1", "-v", "-timeout", "170m", "-run", "^"+name+"$", "./"+filepath.Join("tests", folder))
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
