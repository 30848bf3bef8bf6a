package image

import (
	"bytes"
	"io"
	"testing"
)

// A file of any bytes is an image or refused.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01"))
	f.Add(append([]byte(HeaderMagic), make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			if k, err := img.ExtractKernel(bytes.NewReader(b)); err == nil {
				Write(t.Context(), io.Discard, k, testConfig(), nil)
			}
		}
		ReadKernel(b)
		DecodeHeader(b)
		DecodeBootBlock(b)
	})
}

// A configuration of any bytes is one that can be checked, or refused.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"x","program":"/x","args":["x"],"network":{"mode":"static"}}`))
	f.Add([]byte(`{"version":1,"programs":[{"name":"a","program":"/a","after":["b"],"health":{"tcp":1}},{"name":"b","program":"/b"}]}`))
	f.Add([]byte(`{"version":1,"program":"/\udbff\ude80","args":["􏻩","\udbff\udee9"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		one, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(one)
		if err != nil {
			t.Fatalf("%s: %v", one, err)
		}
		if two, err := Encode(again); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s, read and encoded, is %s: %v", one, two, err)
		}
		c.Check()
		c.StopTime()
		c.Essential()
		c.SetArgs([]string{"a"})
		c.SetEnv("K", "V")
	})
}
