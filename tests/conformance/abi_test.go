package conformance

import (
	"os"
	"testing"
)

func TestTheListOfCallsIsCurrent(t *testing.T) {
	b, err := os.ReadFile("../../docs/abi.md")
	if err != nil || string(b) != ABI() {
		t.Errorf("docs/abi.md is not what `go generate ./tests/conformance` writes (%v)", err)
	}
}
