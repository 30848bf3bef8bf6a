package bake

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
	"kiln/capstan/elfinfo/elftest"
	"kiln/capstan/tree"
)

func layerOf(t *testing.T, files map[string]string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n, data := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o755, Uid: 5, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, data)
	}
	w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A hard link is to the file of its own time, and a path leads through lower layers' links.
func TestContainersUnpackFromTheLowestLayer(t *testing.T) {
	layer := func(hs ...tar.Header) v1.Layer {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			h.Mode = 0o755
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	reg := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	img, err := mutate.AppendLayers(container(t, "amd64"),
		layer(reg("x"), tar.Header{Typeflag: tar.TypeLink, Name: "y", Linkname: "x"}, tar.Header{Typeflag: tar.TypeSymlink, Name: "tools", Linkname: "opt/bin"}),
		layer(reg(".wh.x"), reg("tools/tool")))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	root, err := unpack(context.Background(), img, cfg.RootFS.DiffIDs)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/y", "/opt/bin/server", "/opt/bin/tool"} {
		if _, err := root.Lstat(p); err != nil {
			t.Error(err)
		}
	}
	if _, err := root.Lstat("/x"); err == nil {
		t.Error("/x is there")
	}
}

func container(t *testing.T, arch string) v1.Image {
	t.Helper()
	prog := string(elftest.Make(elftest.Spec{Type: elf.ET_EXEC}))
	img, err := mutate.AppendLayers(empty.Image,
		layerOf(t, map[string]string{"opt/bin/server": prog, "gone": "x", "etc/passwd": "web:x:33:44::/:\n"}),
		layerOf(t, map[string]string{".wh.gone": "", "kept": "new"}))
	if err != nil {
		t.Fatal(err)
	}
	f, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	f = f.DeepCopy()
	f.OS, f.Architecture = "linux", arch
	f.Config = v1.Config{Entrypoint: []string{"server"}, Cmd: []string{"-v"}, Env: []string{"PATH=/usr/bin:/opt/bin", "A=b"},
		WorkingDir: "/srv", User: "web", ExposedPorts: map[string]struct{}{"8080/tcp": {}, "53/udp": {}}}
	if img, err = mutate.ConfigFile(img, f); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestContainersBakeWithTheirConfiguration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(container(t, "amd64")); err != nil {
		t.Fatal(err)
	}
	tag, _ := name.NewTag("web:1")
	file := filepath.Join(t.TempDir(), "web.tar")
	if err := tarball.WriteToFile(file, tag, container(t, "amd64")); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{dir, file} {
		img, err := FromOCI(context.Background(), ref, "", &Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := img.Config
		if c.Name != "web" || c.Program != "/opt/bin/server" || strings.Join(c.Args, " ") != "server -v" || c.UID != 33 || c.GID != 44 ||
			c.WorkDir != "/srv" || len(c.Ports) != 1 || c.Ports[0] != 8080 || !strings.Contains(strings.Join(c.Env, " "), "A=b") {
			t.Errorf("%+v", c)
		}
		if _, err := img.Root.Lstat("/gone"); err == nil {
			t.Error("a file that a later layer removes is there")
		}
		if n, err := img.Root.Lstat("/kept"); err != nil || n.UID != 5 {
			t.Errorf("%+v %v", n, err)
		}
		if n, err := img.Root.Lstat("/srv"); err != nil || !n.Mode.IsDir() {
			t.Errorf("no folder to start in: %v", err)
		}
		if n, err := img.Root.Lstat("/tmp"); err != nil || n.Mode&0o777 != 0o777 {
			t.Errorf("no /tmp to write to: %v", err)
		}
	}
}

// As many vendors' images have it: libraries in a folder that only the environment names.
func TestAContainersLibraryPathIsItsLoaders(t *testing.T) {
	img, err := mutate.AppendLayers(container(t, "amd64"), layerOf(t, map[string]string{
		"opt/bin/server":       string(elftest.Make(elftest.Spec{Needed: []string{"libserver.so"}})),
		"opt/lib/libserver.so": string(elftest.Make(elftest.Spec{}))}))
	if err != nil {
		t.Fatal(err)
	}
	for env, fails := range map[string]bool{"A=b": true, "LD_LIBRARY_PATH=/opt/lib": false} {
		f, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		f = f.DeepCopy()
		f.Config.Env = append(f.Config.Env, env)
		with, err := mutate.ConfigFile(img, f)
		if err != nil {
			t.Fatal(err)
		}
		dir := layoutOf(t, with)
		if _, err := FromOCI(context.Background(), dir, "", &Options{}); (err != nil) != fails {
			t.Errorf("%s: %v", env, err)
		}
	}
}

func TestContainersThatCannotRunAreRefused(t *testing.T) {
	dir := t.TempDir()
	p, _ := layout.Write(dir, empty.Index)
	p.AppendImage(container(t, "arm64"))
	if _, err := FromOCI(context.Background(), dir, "", &Options{}); err == nil || !strings.Contains(err.Error(), "amd64") {
		t.Error(err)
	}
	for _, ref := range []string{"", "UPPER CASE", t.TempDir()} {
		if _, err := FromOCI(context.Background(), ref, "", &Options{}); err == nil {
			t.Errorf("%q is taken for a container image", ref)
		}
	}
}

// layoutOf writes a layout with one image.
func layoutOf(t *testing.T, img v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "web")
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAContainerHasANameForItsFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	if err := os.MkdirAll(filepath.Join(dir, "layout"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for ref, want := range map[string]string{"web.tar": "web", "example.com:5000/team/web:1.2": "web", "team/web@sha256:00": "web",
		".": "web", "layout/..": "web", "layout/": "layout", "..": filepath.Base(filepath.Dir(dir)), "/": "image", ".tar": "image", ".web": "web"} {
		if got := ociName(ref); got != want {
			t.Errorf("%s is %q, not %q", ref, got, want)
		}
	}
}

func TestWhatIsNotWhatItsDigestSaysIsRefused(t *testing.T) {
	img := container(t, "amd64")
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for what, h := range map[string]v1.Hash{"manifest": digest, "configuration": m.Config.Digest, "layer": m.Layers[1].Digest} {
		dir := layoutOf(t, img)
		blob := filepath.Join(dir, "blobs", h.Algorithm, h.Hex)
		b, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		if b = append(b, ' '); what == "layer" {
			r, err := layerOf(t, map[string]string{"other": "x"}).Compressed()
			if err != nil {
				t.Fatal(err)
			}
			if b, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(blob, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := FromOCI(context.Background(), dir, "", &Options{}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("another %s: %v", what, err)
		}
		if os.Remove(blob) != nil || unix.Mkfifo(blob, 0o644) != nil {
			t.Fatal(blob)
		}
		if _, err := FromOCI(context.Background(), dir, "", &Options{}); err == nil || !strings.Contains(err.Error(), "no regular file") {
			t.Errorf("a FIFO for a %s: %v", what, err)
		}
	}
	f, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	f.RootFS.DiffIDs[1] = f.RootFS.DiffIDs[0] // of a file of docker save this is what there is to compare
	if _, err := unpack(context.Background(), img, f.RootFS.DiffIDs); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("another layer: %v", err)
	}
	if _, err := unpack(context.Background(), img, f.RootFS.DiffIDs[:1]); err == nil || !strings.Contains(err.Error(), "2 layers") {
		t.Errorf("a layer too many: %v", err)
	}
}

// An index that lists itself, and indexes of which each lists the next one twice; an image
// that is listed twice is one image.
func TestIndexesInIndexesEnd(t *testing.T) {
	img := container(t, "amd64")
	dir := layoutOf(t, img)
	index := func(media, digest string, size int) []byte {
		d := fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":%d}`, media, digest, size)
		return fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[%s,%s]}`, d, d)
	}
	const isIndex = "application/vnd.oci.image.index.v1+json"
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	list := index("application/vnd.docker.distribution.manifest.v2+json", digest.Hex, 1)
	for depth := range 30 {
		put("index.json", list)
		if _, err := FromOCI(context.Background(), dir, "", &Options{}); depth < maxIndexes && err != nil || depth >= maxIndexes && (err == nil || !strings.Contains(err.Error(), "more than 4 indexes")) {
			t.Errorf("%d indexes above an image: %v", depth+1, err)
		}
		hex := fmt.Sprintf("%x", sha256.Sum256(list))
		put("blobs/sha256/"+hex, list)
		list = index(isIndex, hex, len(list))
	}
	self := strings.Repeat("5", 64)
	put("blobs/sha256/"+self, index(isIndex, self, 1))
	put("index.json", index(isIndex, self, 1))
	if _, err := FromOCI(context.Background(), dir, "", &Options{}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("an index that lists itself: %v", err)
	}
}

func TestRootKeepsItsOwnFilesAndGetsWhatItLacks(t *testing.T) {
	root := tree.New()
	root.Add("/bin/prog", tree.File(0o755, elftest.Make(elftest.Spec{Type: elf.ET_EXEC})))
	root.Add("/etc/passwd", tree.File(0o600, []byte("mine")))
	root.Add("/usr/share/doc/big", tree.File(0o644, []byte("doc")))
	img, err := FromRoot(context.Background(), root, "/bin/prog", &Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := img.Root.Lstat("/etc/passwd"); err != nil || n.Size != 4 || n.Mode != 0o600 {
		t.Errorf("%+v %v", n, err)
	}
	if n, err := img.Root.Lstat("/bin"); err != nil || !n.Mode.IsDir() {
		t.Errorf("%+v %v", n, err)
	}
	for _, p := range []string{"/proc", "/dev", "/tmp", "/etc/hosts"} {
		if _, err := img.Root.Lstat(p); err != nil {
			t.Error(err)
		}
	}
	if _, err := img.Root.Lstat("/usr/share/doc/big"); err == nil {
		t.Error("documentation is in the image")
	}
}

func TestARootsProgramMayBeAScriptOfTheRoots(t *testing.T) {
	root := tree.New()
	root.Add("/bin/sh", tree.File(0o755, elftest.Make(elftest.Spec{Type: elf.ET_EXEC})))
	root.Add("/bin/env", tree.File(0o755, elftest.Make(elftest.Spec{Type: elf.ET_EXEC})))
	for name, line := range map[string]string{"/entry.sh": "#!/bin/sh -e\n", "/lost.sh": "#!/bin/nosuch\n", "/env.sh": "#!/bin/env sh\n", "/astray.sh": "#!/bin/env nosuch\n"} {
		root.Add(name, tree.File(0o755, []byte(line)))
	}
	img, err := FromRoot(context.Background(), root, "/entry.sh", &Options{})
	if err != nil {
		t.Fatal(err)
	}
	if img.Config.Program != "/entry.sh" {
		t.Errorf("the program is %s", img.Config.Program)
	}
	if _, err := FromRoot(context.Background(), root, "/env.sh", &Options{}); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"/lost.sh": "/lost.sh is a script for /bin/nosuch", "/astray.sh": "/astray.sh is a script for nosuch, which is in no folder"} {
		if _, err := FromRoot(context.Background(), root, name, &Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a script whose interpreter the root lacks: %v", err)
		}
	}
}
