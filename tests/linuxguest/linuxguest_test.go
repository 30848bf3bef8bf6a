package linuxguest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/tests/linuxguest/spec"
)

// TestLinuxRunsAProgramAndSaysHowItEnded is the oracle's own check.
func TestLinuxRunsAProgramAndSaysHowItEnded(t *testing.T) {
	if os.Getenv("KILN_ACCEPT") == "" && testing.Short() {
		t.Skip("boots Linux")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	k, err := Get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "p.c")
	os.WriteFile(src, []byte("#include <stdio.h>\nint main(int c,char**v){printf(\"hello %s\\n\",v[1]);return 42;}\n"), 0o644)
	if out, err := exec.Command("gcc", "-static", "-o", filepath.Join(dir, "p"), src).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "p"))
	g := &Guest{
		Kernel: k,
		Files:  map[string]string{"/p": string(b)},
		Spec:   spec.Spec{Path: "/p", Args: []string{"p", "world"}},
		Args:   []string{"-M", "q35", "-cpu", "max", "-accel", "tcg", "-m", "256M", "-display", "none", "-serial", "stdio", "-nodefaults"},
	}
	out, err := g.Run(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "hello world\n") || !strings.Contains(out, "kilnguest: exit 42\n") {
		t.Fatalf("the guest said:\n%s", out)
	}
}
