package cli

import (
	"testing"
	"time"

	"kiln/kernel/image"
)

func TestPatienceOfTheCommandLineIsPacksToo(t *testing.T) {
	c := &image.Config{Programs: image.Programs{{Name: "db"}, {Name: "web", Patience: image.Duration(5 * time.Second)}}}
	for line, want := range map[string]time.Duration{
		"":                                   15 * time.Second,
		"quiet kiln.program.db.patience=60s": 65 * time.Second,
		`kiln.program.db.patience="60s" kiln.program.web.args=x`:  65 * time.Second,
		"kiln.program.db.patience=long":                           15 * time.Second,
		"kiln.program.none.patience=60s":                          15 * time.Second,
		"program.db.patience=60s -- kiln.program.db.patience=60s": 15 * time.Second,
	} {
		if got := stopTime(c, line); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
	if c.Programs[0].Patience != 0 {
		t.Error("the configuration was changed")
	}
	if got := stopTime(&image.Config{}, ""); got != 10*time.Second {
		t.Errorf("one program: %v", got)
	}
}
