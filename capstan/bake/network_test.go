package bake

import (
	"context"
	"os"
	"testing"
	"time"

	"kiln/apps"
	"kiln/capstan/catalogue"
	"kiln/capstan/erofs"
	"kiln/capstan/tree"
)

// Every entry bakes on a machine that has nothing but apt: all files, the C library
// included, come from packages. Set KILN_NETWORK_TESTS=1 to run it; it fetches some
// 40 MB once.
func TestCatalogueBakesFromPackagesAlone(t *testing.T) {
	if os.Getenv("KILN_NETWORK_TESTS") == "" {
		t.Skip("needs the network and KILN_NETWORK_TESTS=1")
	}
	cache := os.Getenv("KILN_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	c := catalogue.New(apps.FS)
	for _, name := range c.Names() {
		m, err := c.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if m.Build != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		img, err := FromManifest(ctx, m, &Options{Host: tree.New(), Cache: cache, Log: t.Logf})
		cancel()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l, err := erofs.Plan(img.Root, erofs.None)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d files, %d MB, %v", name, l.Files(), l.Size()>>20, img.Packages)
		if dir := os.Getenv("KILN_KEEP"); dir != "" {
			f, err := os.Create(dir + "/" + name + ".erofs")
			if err != nil {
				t.Fatal(err)
			}
			l.WriteTo(f)
			f.Close()
		}
	}
}
