package elfinfo

import (
	"bytes"
	"os"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	if b, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { Parse(bytes.NewReader(b), int64(len(b)), "x") })
}
