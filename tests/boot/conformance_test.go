package boot

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"kiln/capstan/bake"
	"kiln/capstan/tree"
	"kiln/tests/conformance"
	"kiln/tests/vmtest"
)

// Every conformance case runs in one machine, one after the other, and prints what Linux
// printed.
func TestConformance(t *testing.T) {
	cases := conformance.Cases()
	img := conformanceImage(t, cases)
	m := vmtest.Boot(t, img, "--net", "none", "-m", "512M")
	tailIfFailed(t, m.Console)
	m.Status(t, 15*time.Minute)
	console := m.Console()
	checkAlive(t, console)
	texts, err := conformance.GuestOutput(console)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			want, err := conformance.Golden(c.Name)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := texts[c.Name]
			if !ok {
				t.Fatal("the case did not come back")
			}
			if d := conformance.Diff(conformance.Excuse(want), got); d != "" {
				t.Errorf("Linux (-) and Kiln (+):\n%s", d)
			}
		})
	}
}

func conformanceImage(t *testing.T, cases []conformance.Case) string {
	t.Helper()
	root, err := conformance.Root(cases)
	if err != nil {
		t.Fatal(err)
	}
	files, err := conformance.GuestFiles(cases)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := root.Add(name, tree.File(0o755, b)); err != nil {
			t.Fatal(err)
		}
	}
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	opts := &bake.Options{Kernel: filepath.Join(filepath.Dir(pack), "kernel.elf")}
	built, err := bake.FromRoot(context.Background(), root, conformance.GuestPath, opts)
	if err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "image")
	if _, err := bake.Write(context.Background(), img, built, opts); err != nil {
		t.Fatal(err)
	}
	return img
}
