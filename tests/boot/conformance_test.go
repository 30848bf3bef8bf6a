package boot

import (
	"context"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"kiln/capstan/bake"
	"kiln/capstan/tree"
	"kiln/tests/conformance"
	"kiln/tests/vmtest"
)

// Every conformance case prints in a machine what Linux printed. Two machines share them, as
// most of a case's time is waiting; in each they run one after the other.
func TestConformance(t *testing.T) {
	const machines = 2
	cases := conformance.Cases()
	var part [machines][]conformance.Case
	for i, c := range cases {
		part[i%machines] = append(part[i%machines], c)
	}
	var booted [machines]*vmtest.Machine
	for i := range booted {
		booted[i] = vmtest.Boot(t, conformanceImage(t, part[i]), "--net", "none", "-m", "512M")
		tailIfFailed(t, booted[i].Console)
	}
	texts := map[string]string{}
	for _, m := range booted {
		m.Status(t, 15*time.Minute)
		checkAlive(t, m.Console())
		l, err := conformance.GuestOutput(m.Console())
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(texts, l)
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
