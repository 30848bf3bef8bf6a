package boot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestStubBinIsBuiltFromSource rebuilds the stub and compares it with the
// committed bytes: nobody has to trust a binary in the tree.
func TestStubBinIsBuiltFromSource(t *testing.T) {
	if _, err := exec.LookPath("as"); err != nil {
		t.Skip("no GNU as")
	}
	out := filepath.Join(t.TempDir(), "stub.bin")
	if msg, err := exec.Command("./build.sh", out).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Stub) {
		t.Fatal("stub.bin differs from what stub.S assembles to: run go generate ./kernel/boot")
	}
	if len(Stub) > 0x1000 {
		t.Fatalf("the stub is %d bytes and runs into its scratch page", len(Stub))
	}
}
