package fuzztargets

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/tests/vmtest"
)

// Whatever reads what others wrote has a target.
func TestEveryReaderHasATarget(t *testing.T) {
	root, err := vmtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	list, err := List(root)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, c := range list {
		have[c.String()] = true
	}
	for _, n := range []string{
		"loader/FuzzLoad", "capstan/elfinfo/FuzzParse", "fs/erofs/FuzzImage", "kernel/image/FuzzOpen", "kernel/image/FuzzConfig", "kernel/system/FuzzCmdline",
		"net/FuzzFrame", "net/FuzzDHCP", "net/FuzzPacketSend", "net/FuzzICMPError", "net/FuzzFilter", "net/FuzzNetlink", "kernel/cbpf/FuzzParse",
		"drivers/acpi/FuzzTables", "drivers/acpi/aml/FuzzParse", "capstan/manifest/FuzzParse", "capstan/deb/FuzzRead", "capstan/tree/FuzzTar",
		"drivers/virtio/FuzzQueue", "drivers/virtio/FuzzPCI", "drivers/virtio/blk/FuzzDisk", "drivers/virtio/net/FuzzCard", "drivers/virtio/console/FuzzConsole", "drivers/virtio/vsock/FuzzVsock", "net/FuzzVsock",
		"fs/erofs/FuzzCompressed", "net/FuzzTun", "syscalls/FuzzSeccomp",
	} {
		if !have[n] {
			t.Errorf("no %s", n)
		}
	}
}

// A target that fails is told with its input; one that finds nothing is counted; one that
// does not come to its end because the time is over is neither.
func TestATargetIsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a package for fuzzing")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module x\n\ngo 1.26\n",
		"p/x_test.go": `package p

import "testing"

func FuzzFine(f *testing.F) { f.Fuzz(func(t *testing.T, b []byte) {}) }

func FuzzBad(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 3 {
			t.Error("four")
		}
	})
}
`} {
		name = filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list, err := List(dir)
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	o := Options{Root: dir, Time: 3 * time.Second}
	if r := Run(t.Context(), list[0], o); r.Err != nil || r.Execs == 0 || r.Stopped {
		t.Errorf("%+v", r)
	}
	o.Time = time.Minute
	if r := Run(t.Context(), list[1], o); r.Err == nil || !strings.Contains(r.Err.Error(), "go test fuzz v1") {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if r := Run(ctx, list[0], o); r.Err != nil || !r.Stopped {
		t.Errorf("%+v", r)
	}
}

func TestProgress(t *testing.T) {
	out := "fuzz: elapsed: 0s, gathering baseline coverage: 0/3 completed\nfuzz: elapsed: 3s, execs: 120 (40/sec), new interesting: 1 (total: 4)\n" +
		"fuzz: elapsed: 9s, execs: 121 (0/sec), new interesting: 1 (total: 4)\nfuzz: elapsed: 1m9s, execs: 121 (0/sec), new interesting: 1 (total: 4)\n"
	if n, still := progress(out); n != 121 || still != time.Minute {
		t.Errorf("%d, %v", n, still)
	}
}
