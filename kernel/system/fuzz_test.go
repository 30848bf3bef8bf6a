package system

import (
	"testing"

	"kiln/kernel/image"
)

func FuzzCmdline(f *testing.F) {
	f.Add(`console=ttyS0 init=/bin/x kiln.env.A=b kiln.program.a.args="x y" -- a "b c"`)
	f.Fuzz(func(t *testing.T, s string) {
		c := ParseCmdline(s)
		c.Apply(&image.Config{Version: 1, Program: "/x"})
		c.Apply(&image.Config{Version: 1, Programs: image.Programs{{Name: "a", Exec: image.Exec{Program: "/a"}}}})
	})
}
