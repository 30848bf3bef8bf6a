package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"kiln/capstan/bake/baketest"
	"kiln/capstan/erofs"
	"kiln/capstan/tree"
	"kiln/capstan/vmm/vmmtest"
)

func TestInspectShowsNoNameThatATerminalObeys(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	const name, target = "a\x1b[2J\t\u009b31m\n-rw------- 0:0 0 /forged", "to\x1b]0;x\x07\xff"
	write(t, "web/prog", static())
	write(t, "web/files/"+strings.ReplaceAll(name, "/", "_"), nil)
	if err := os.Symlink(target, "web/files/link"); err != nil {
		t.Fatal(err)
	}
	write(t, "web/manifest.yaml", []byte("name: web\nprogram: /prog\nenv: {X: \"\\u009b31m\\U000e0041\"}\nfiles: [{path: /prog, from: prog, mode: 0755}, {path: /f, from: files}]\n"))
	if status, _, errs := pack(t, "-q", "build", "web"); status != 0 {
		t.Fatal(errs)
	}
	for _, args := range [][]string{{"inspect", "web.img"}, {"inspect", "--json", "web.img"}} {
		status, out, errs := pack(t, args...)
		if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); status != 0 || i >= 0 {
			t.Errorf("%v: %d %s, %q", args, status, errs, out[max(i, 0):])
		}
		if strings.Contains(out, "\n-rw------- 0:0 0") {
			t.Errorf("%v: a line is forged", args)
		}
		if len(args) == 2 {
			continue
		}
		var r struct {
			Files  []struct{ Path string }
			Config struct{ Env []string }
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range r.Files {
			found = found || f.Path == "/f/"+strings.ReplaceAll(name, "/", "_")
		}
		if !found || !strings.Contains(strings.Join(r.Config.Env, " "), "X=\u009b31m\U000e0041") {
			t.Errorf("%+v", r)
		}
	}
}

// A folder that is in itself, and one that is in another's place as well.
func TestInspectEndsWhateverARootSays(t *testing.T) {
	tr := tree.New()
	for _, name := range []string{"/a/b/f", "/c/f"} {
		if err := tr.Add(name, tree.File(0o644, nil)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := erofs.Plan(tr, erofs.None)
	if err != nil {
		t.Fatal(err)
	}
	var img bytes.Buffer
	if _, err := l.WriteTo(&img); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	block := bytes.Index(img.Bytes(), []byte("...b")) - 3*12 // of /a
	root := bytes.Index(img.Bytes(), []byte("...ac")) - 4*12
	c := le.Uint64(img.Bytes()[root+3*12:])
	for _, nid := range []uint64{le.Uint64(img.Bytes()[block:]), le.Uint64(img.Bytes()[root:]), c} {
		bad := bytes.Clone(img.Bytes())
		le.PutUint64(bad[block+2*12:], nid)
		fsys, err := erofs.List(bytes.NewReader(bad))
		if err != nil {
			t.Fatal(err)
		}
		if list, err := files(fsys, uint64(len(bad))/leastEntry); err == nil || !strings.Contains(err.Error(), "in two places") {
			t.Errorf("b is %d: %d names, %v", nid, len(list), err)
		}
	}
	fsys, err := erofs.List(bytes.NewReader(img.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := files(fsys, uint64(img.Len())/leastEntry); err != nil || len(list) != 6 {
		t.Errorf("%v %v", list, err)
	}
	if _, err := files(fsys, 5); err == nil {
		t.Error("more names than there may be")
	}
}

func TestAFIFOIsNotWaitedFor(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	if err := syscall.Mkfifo("fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	vmmtest.Install(t, "ctl exit 0")
	for _, args := range [][]string{{"run", "./fifo"}, {"./fifo"}, {"inspect", "./fifo"}} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if status, _, errs := pack(t, args...); status == 0 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "./fifo is no ") {
				t.Errorf("pack %v: %d %q", args, status, errs)
			}
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("pack %v waits", args)
		}
	}
}
