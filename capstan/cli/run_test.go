package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/capstan/bake/baketest"
	"kiln/capstan/vmm/vmmtest"
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

func TestARunSweepsWhatKilledOnesLeft(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	tmp, cache := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("KILN_CACHE", cache)
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{tmp + "/kiln-run-1/ctl", tmp + "/kiln-boot-2/kernel", cache + "/images/.kiln-run-3/web.img"} {
		write(t, name, nil)
		if err := os.Chtimes(filepath.Dir(name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	vmmtest.Install(t, "ctl exit 0")
	if status, _, errs := pack(t, "run", "-q", "--accel", "tcg", "-e", "A=b", "./good"); status != 0 {
		t.Fatal(errs)
	}
	if files := append(left(tmp), left(cache)...); len(files) > 0 {
		t.Errorf("%v are left", files)
	}
}

func TestASecondImageThatCannotBeMadeIsNoMistakeOfTheUsers(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	if status, _, errs := pack(t, "-q", "./good"); status != 0 {
		t.Fatal(errs)
	}
	t.Setenv("TMPDIR", "/proc/none")
	vmmtest.Install(t, "ctl exit 0")
	if status, _, errs := pack(t, "run", "-e", "A=b", "good.img"); status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "TMPDIR") {
		t.Errorf("%d %q", status, errs)
	}
	if status, _, errs := pack(t, "run", "--root", "moon", "good.img"); status != 2 {
		t.Errorf("%d %q", status, errs)
	}
}
