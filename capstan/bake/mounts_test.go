package bake

import (
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"kiln/capstan/elfinfo/elftest"
	"kiln/capstan/tree"
)

func TestWhatTheMachineMountsOverIsRefused(t *testing.T) {
	static := elftest.Make(elftest.Spec{Type: elf.ET_EXEC})
	h := glibcHost(t)
	h.Add("/usr/bin/tool", tree.File(0o755, static))
	h.Add("/dev/tool", tree.File(0o755, static))
	for _, c := range []struct{ doc, want string }{
		{"program: /usr/bin/tool\nworkdir: /run/app\nfiles: [{path: /run/app, dir: true}]", ""},
		{"program: /usr/bin/tool\nworkdir: /var/run/app\nfiles: [{path: /run/app, dir: true}]", ""},
		{"program: /usr/bin/tool\nworkdir: /run/app", "/run/app, which is no folder of the image"},
		{"program: /usr/bin/tool\nworkdir: /tmp/app", "/tmp/app, which is no folder of the image"},
		{"program: /usr/bin/tool\nworkdir: /tmp", ""},
		{"program: /usr/bin/tool\nworkdir: /dev/shm", ""},
		{"program: /usr/bin/tool\nworkdir: /proc/self", ""},
		{"program: /usr/bin/tool\nworkdir: /dev/app\nfiles: [{path: /srv/x, dir: true}]", "the workdir /dev/app would not be there"},
		{"program: /usr/bin/tool\nworkdir: /data\nmounts: [{type: tmpfs, target: /data/}]", ""},
		{"program: /usr/bin/tool\nworkdir: /now\nmounts: [{type: tmpfs, target: /data}]\nfiles: [{path: /data, dir: true}, {path: /now, link: data}]", ""},
		{"program: /usr/bin/tool\nworkdir: /data/sub\nmounts: [{type: tmpfs, target: /data}]", "the workdir /data/sub would not be there: the machine mounts a file system of its own on /data"},
		{"program: /usr/bin/tool\nfiles: [{path: /dev/conf, text: x}]", "/dev/conf would not be there: the machine mounts a file system of its own on /dev"},
		{"program: /usr/bin/tool\nfiles: [{path: /dev/shm, dir: true}]", ""},
		{"program: /usr/bin/tool\nfiles: [{path: /data/conf, text: x}]\nmounts: [{type: tmpfs, target: /data}]", "/data/conf would not be there"},
		{"program: /dev/tool", "/dev/tool would not be there"},
		{"program: /srv/tool\nfiles: [{path: /srv/tool, link: /dev/tool}]", "/srv/tool would not be there"},
		{"program: /data/tool\nfiles: [{path: /data, from: data}]\nmounts: [{type: tmpfs, target: /data}]", "/data/tool would not be there"},
		{"program: /usr/bin/tool\nmounts: [{type: tmpfs, target: /var/lib/app/cache}]", ""},
		{"program: /usr/bin/tool\nmounts: [{type: tmpfs, target: /srv/file}]\nfiles: [{path: /srv/file, text: x}]", "/srv/file is no folder"},
		{"program: /usr/bin/tool\nmounts: [{type: tmpfs, target: /srv/file/x/y}]\nfiles: [{path: /srv/file, text: x}]", "/srv/file is no folder"},
		{"program: /usr/bin/tool\nmounts: [{type: tmpfs, target: /srv/link/x}]\nfiles: [{path: /srv/link, link: nowhere}]", "/srv/link is no folder"},
		{"program: /usr/bin/tool\nmounts: [{type: tmpfs, target: /var/run/x}]", ""},
	} {
		m := parse(t, "name: x\n"+c.doc+"\n", fstest.MapFS{"data/tool": {Data: static, Mode: 0o755}})
		_, err := FromManifest(context.Background(), m, &Options{Host: h, Cache: t.TempDir()})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s:\n%v", c.doc, err)
		}
	}
}

// A program that finds its libraries beside itself stays where it is, in /tmp too, which
// is the image's then.
func TestAProgramStaysBesideItsLibraries(t *testing.T) {
	dir := t.TempDir()
	for name, s := range map[string]elftest.Spec{"app": {Type: elf.ET_EXEC, Needed: []string{"libown.so"}, RunPath: "$ORIGIN"}, "libown.so": {}} {
		if err := os.WriteFile(filepath.Join(dir, name), elftest.Make(s), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	img, err := FromProgram(context.Background(), filepath.Join(dir, "app"), &Options{Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{img.Config.Program, filepath.Join(filepath.Dir(img.Config.Program), "libown.so")} {
		if _, err := img.Root.Lstat(n); err != nil {
			t.Error(err)
		}
	}
}

// The folder that $ORIGIN means is that of the file, and not of a link to it.
func TestAProgramThatALinkLeadsToStaysBesideItsLibraries(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]elftest.Spec{"tool-1.2/bin/tool": {Type: elf.ET_EXEC, Needed: []string{"libown.so"}, RunPath: "$ORIGIN/../lib"},
		"tool-1.2/lib/libown.so": {}, "plain-1": {Type: elf.ET_EXEC}} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), elftest.Make(s), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, "bin"), 0o755)
	for name, to := range map[string]string{"t": "../tool-1.2/bin/tool", "plain": "../plain-1"} {
		if err := os.Symlink(to, filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"t": dir + "/tool-1.2/bin/tool", "plain": "/usr/local/bin/plain"} {
		img, err := FromProgram(context.Background(), filepath.Join(dir, "bin", name), &Options{Cache: t.TempDir()})
		if err != nil {
			t.Error(err)
			continue
		}
		if c := img.Config; c.Program != want || c.Name != name || c.Args[0] != name || c.Hostname != name {
			t.Errorf("%s is %+v", name, c)
		}
		if n, err := img.Root.Lstat(want); err != nil || !n.Mode.IsRegular() {
			t.Errorf("%s: %+v %v", want, n, err)
		}
		if _, err := img.Root.Lstat(dir + "/tool-1.2/lib/libown.so"); (err == nil) != (name == "t") {
			t.Errorf("%s: its library: %v", name, err)
		}
	}
}

// A program of the system comes with the links that lead to it.
func TestASystemsProgramComesWithItsLinks(t *testing.T) {
	real, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil || real == "/bin/sh" {
		t.Skip("/bin/sh is no link here")
	}
	img, err := FromProgram(context.Background(), "/bin/sh", &Options{Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _, err := tree.Resolve(img.Root, "/bin/sh"); err != nil || got != real || img.Config.Program != "/bin/sh" {
		t.Errorf("/bin/sh is %s, %v: %+v", got, err, img.Config)
	}
}
