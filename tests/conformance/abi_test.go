package conformance

import (
	"os"
	"testing"
)

func TestTheListOfCallsIsCurrent(t *testing.T) {
	b, err := os.ReadFile("../../docs/abi.md")
	text, err2 := ABI()
	if err != nil || err2 != nil || string(b) != text {
		t.Errorf("docs/abi.md is not what `go generate ./tests/conformance` writes (%v, %v)", err, err2)
	}
}
