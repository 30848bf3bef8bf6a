package manifest

import "testing"

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: x\nprogram: /bin/x\nargs: [a, b]\nports: [80]\n"))
	f.Add([]byte("name: x\nprograms:\n  - name: a\n    program: /a\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		Parse(b)
		ParseSize(string(b))
	})
}
