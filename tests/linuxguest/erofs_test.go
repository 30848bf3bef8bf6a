package linuxguest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/capstan/erofs"
	"kiln/capstan/tree"
	"kiln/tests/linuxguest/spec"
)

// TestLinuxReadsTheRootsThatPackWrites mounts them on Linux, for which EROFS was made.
func TestLinuxReadsTheRootsThatPackWrites(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	k, err := Get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	prog := filepath.Join(t.TempDir(), "sumtree")
	build := exec.Command("go", "build", "-o", prog, "kiln/tests/cmd/sumtree")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(prog)
	if err != nil {
		t.Fatal(err)
	}
	tr := sample(t, b)
	ways := []erofs.Compression{erofs.LZ4, erofs.LZ4HC}
	files, args := map[string]string{"/sumtree": string(b)}, []string{"sumtree"}
	for _, how := range ways {
		l, err := erofs.Plan(tr, how)
		if err != nil {
			t.Fatal(err)
		}
		var img bytes.Buffer
		if _, err := l.WriteTo(&img); err != nil {
			t.Fatal(err)
		}
		name := "/" + string(how)
		files[name], args = img.String(), append(args, name)
	}
	plain, err := erofs.Plan(tr, erofs.None)
	if err != nil {
		t.Fatal(err)
	}
	if whole := int(plain.Size()); len(files["/lz4hc"]) >= len(files["/lz4"]) || len(files["/lz4"]) > whole*9/10 {
		t.Errorf("%d bytes plain, %d with lz4, %d with lz4hc", whole, len(files["/lz4"]), len(files["/lz4hc"]))
	}
	g := &Guest{
		Kernel: k, Files: files, Modules: []string{"crc32c_generic", "libcrc32c", "loop", "erofs"},
		Spec: spec.Spec{Path: "/sumtree", Args: args},
		Args: []string{"-M", "q35", "-cpu", "max", "-accel", "tcg", "-m", "512M", "-display", "none", "-serial", "stdio", "-nodefaults"},
	}
	out, err := g.Run(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := map[string]bool{}
	for line := range strings.Lines(out) {
		said[strings.TrimSpace(line)] = true
	}
	want := map[string]bool{"end": true}
	for _, img := range args[1:] {
		err := tr.Walk(func(name string, n *tree.Node) error {
			if name == "/" {
				name = ""
			}
			line := fmt.Sprintf("%s %s %v", img, name, n.Mode)
			if n.Mode.IsRegular() {
				b, err := n.ReadAll()
				if err != nil {
					return err
				}
				line += fmt.Sprintf(" %d %x", len(b), sha256.Sum256(b))
			}
			want[strings.TrimSpace(line)] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for line := range want {
		if !said[line] {
			t.Errorf("Linux does not say: %s", line)
		}
	}
	for line := range said {
		if strings.HasPrefix(line, "/") && !want[line] {
			t.Errorf("Linux says: %s", line)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// sample is a tree with a program, and files that end at every place of a piece.
func sample(t *testing.T, program []byte) *tree.Tree {
	t.Helper()
	tr := tree.New()
	add := func(name string, n *tree.Node) {
		if err := tr.Add(name, n); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewSource(3))
	noise := make([]byte, 200_000)
	r.Read(noise)
	var text bytes.Buffer
	for i := 0; text.Len() < 300_000; i++ {
		fmt.Fprintf(&text, "%d: %x\n", i, r.Uint64())
	}
	add("/bin/program", tree.File(0o755, program[:500_000]))
	add("/noise", tree.File(0o600, noise))
	add("/zeros", tree.File(0o644, make([]byte, 1<<20)))
	add("/mixed", tree.File(0o644, append(append(bytes.Clone(text.Bytes()[:70_000]), noise...), text.Bytes()...)))
	add("/link", tree.Symlink("bin/program"))
	add("/sticky", &tree.Node{Mode: fs.ModeDir | fs.ModeSticky | 0o777})
	for _, n := range []int{0, 1, 4095, 4096, 4097, 8192, 8193, 65535, 65536, 65537, 69632, 131071, 131072, 131073} {
		add(fmt.Sprintf("/cut/%d", n), tree.File(0o644, text.Bytes()[:n]))
	}
	for i := range 100 {
		add(fmt.Sprintf("/many/%03d", i), tree.File(0o644, text.Bytes()[i*100:i*100+50+i*120]))
	}
	return tr
}
