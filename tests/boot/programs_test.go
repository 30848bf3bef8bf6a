package boot

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/apps"
	"kiln/capstan/catalogue"
	"kiln/capstan/smoke"
	"kiln/tests/programs"
	"kiln/tests/rotation"
	"kiln/tests/vmtest"
)

func built(t testing.TB, name string) string {
	t.Helper()
	p, err := programs.Build(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryWayOfLinkingRunsWithThreads(t *testing.T) {
	for _, name := range []string{"hello-static", "hello-static-pie", "hello-pie", "hello-no-pie", "hello-musl"} {
		t.Run(name, func(t *testing.T) {
			out, status := run(t, bootLimit, image(t, built(t, name)), nil, "a", "b c")
			if status != 0 {
				t.Errorf("status %d", status)
			}
			has(t, out, "hello a b c\n", "thread 0: 7\n", "thread 1: 8\n", "thread 2: 9\n", "thread 3: 10\n")
		})
	}
}

// The same on the CPU without XSAVE and FSGSBASE.
func TestDynamicProgramRunsOnTheOldestCPU(t *testing.T) {
	out, status := run(t, bootLimit, image(t, built(t, "hello-pie")), machines[2].flags, "x")
	if status != 0 {
		t.Errorf("status %d", status)
	}
	has(t, out, "hello x\n", "thread 3: 10\n")
}

func TestStockGoServerFetchesItsOwnPagesAndServesTheHost(t *testing.T) {
	prog := built(t, "httpd")
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			out, status := run(t, bootLimit, image(t, prog), m.flags)
			if status != 0 {
				t.Errorf("status %d", status)
			}
			has(t, out, "80 pages, ", "slept true, GCs true\n")
		})
	}
	t.Run("served to the host", func(t *testing.T) {
		port, err := vmtest.FreePort(0)
		if err != nil {
			t.Fatal(err)
		}
		m := vmtest.Boot(t, image(t, prog), "-p", fmt.Sprintf("%d:8080", port), "--", "-serve", ":8080")
		tailIfFailed(t, m.Console)
		c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		time.Sleep(700 * time.Millisecond) // as in fetchOnce
		for _, path := range []string{"/", "/some/where", "/big"} {
			eventually(t, 30*time.Second, path, func() error {
				r, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
				if err != nil {
					return err
				}
				defer r.Body.Close()
				b, err := io.ReadAll(r.Body)
				if err == nil && (path == "/big" && len(b) != 1<<20 || path != "/big" && string(b) != "hello from "+path+"\n") {
					t.Fatalf("%s gives %d bytes: %.80q", path, len(b), b)
				}
				return err
			})
		}
		if status := m.Stop(t, 20*time.Second); status != 143 {
			t.Errorf("stopped by SIGTERM, status %d", status)
		}
		checkAlive(t, m.Console())
	})
}

// Every entry of the catalogue does what its manifest says, on microvm: in a quick run
// those whose turn it is, in the full run all, on the other machines too.
func TestCatalogueEntriesPassTheirSmokeTests(t *testing.T) {
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	cat := catalogue.New(apps.FS)
	names := cat.Names()
	for _, name := range names {
		if man, err := cat.Load(name); err != nil || len(man.Smoke) == 0 {
			t.Errorf("%s has no smoke test (%v)", name, err)
		}
	}
	if !accept {
		turn, _ := rotation.Turn()
		names = rotation.Choose(names, turn)
		t.Log(rotation.Say(cat.Names()))
	}
	for _, m := range machines[:size(1, len(machines))] {
		r := &smoke.Runner{Pack: pack, Args: append([]string{"--accel", "tcg"}, m.flags...)}
		for _, name := range names {
			man, err := cat.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range man.Smoke {
				t.Run(m.name+"/"+name+"/"+man.Smoke[i].Name, func(t *testing.T) {
					if err := r.Run(t.Context(), image(t, name), &man.Smoke[i]); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// The root on a disk, which larger images have, serves the same, and so do compressed ones.
func TestRootOnADiskServesTheSameFiles(t *testing.T) {
	pack, err := vmtest.Pack()
	if err != nil {
		t.Fatal(err)
	}
	z := filepath.Join(t.TempDir(), "lua.img")
	if out, err := exec.Command(pack, "build", "lua", "--compress", "lz4hc", "-o", z).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, img := range []string{image(t, "lua"), z, z} {
		where := []string{"disk", "memory", "disk"}[i]
		m := machines[i%len(machines)]
		t.Run(fmt.Sprintf("%s %d %s", m.name, i, where), func(t *testing.T) {
			out, err := output(t, bootLimit, exec.Command(pack, append([]string{"run", "-q", "--net", "none", "--root", where, img}, m.flags...)...))
			if err != nil {
				t.Errorf("%v", err)
			}
			checkAlive(t, out)
			has(t, out, "primes below 1000: 168", "file: kept 3 lines")
			if t.Failed() {
				t.Log(tail(out))
			}
		})
	}
}

func TestOneBootAfterAnotherServesAPageEachTime(t *testing.T) {
	img := image(t, "nginx")
	for i := range size(3, 100) {
		start := time.Now()
		fetchOnce(t, img, machines[i%len(machines)].flags)
		if t.Failed() {
			t.Fatalf("boot %d", i)
		}
		if accept {
			t.Logf("boot %d: %.1f s", i, time.Since(start).Seconds())
		}
	}
}

func fetchOnce(t *testing.T, img string, flags []string) {
	t.Helper()
	port, err := vmtest.FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	m := vmtest.Boot(t, append([]string{img, "-p", fmt.Sprintf("%d:80", port)}, flags...)...)
	// QEMU's user network takes a connection at once and repeats its SYN to a machine
	// that was not up yet only after 6 s.
	time.Sleep(700 * time.Millisecond)
	c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var page []byte
	end := time.Now().Add(60 * time.Second)
	for {
		r, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err == nil {
			page, err = io.ReadAll(r.Body)
			r.Body.Close()
		}
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no page in a minute: %v; the console:\n%s", err, tail(m.Console()))
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !strings.Contains(string(page), "<h1>Baked in Kiln</h1>") {
		t.Errorf("the page is %q", page)
	}
	if status := m.Stop(t, 20*time.Second); status != 0 {
		t.Errorf("status %d:\n%s", status, tail(m.Console()))
	}
	checkAlive(t, m.Console())
}

// The image is a file like any other: a copy of it under another name boots.
func TestImageIsOneFileThatBootsFromAnywhere(t *testing.T) {
	b, err := os.ReadFile(program(t, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "an image, with a comma")
	if err := os.WriteFile(name, b, 0o444); err != nil {
		t.Fatal(err)
	}
	if out, status := run(t, bootLimit, name, nil); status != 0 || !strings.Contains(out, "hello\n") {
		t.Errorf("status %d", status)
	}
}
