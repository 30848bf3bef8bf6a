package bake

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"kiln/capstan/deb/debtest"
	"kiln/capstan/elfinfo"
	"kiln/capstan/elfinfo/elftest"
	"kiln/capstan/tree"
)

// hostPrograms is a package of programs of this machine with their libraries.
func hostPrograms(t *testing.T, name string, programs ...string) []byte {
	t.Helper()
	host := tree.HostSource{Dir: "/"}
	c := elfinfo.NewClosure(host)
	files := map[string]string{}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
		if err := c.Add(p); err != nil {
			t.Fatal(err)
		}
		files[p] = p
	}
	for _, l := range c.Libraries() {
		files[l.Path] = l.Real
	}
	var list []tar.Header
	for at, from := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, debtest.Reg("."+at, string(b)))
	}
	return debtest.Package(name, "", debtest.Zstd, list...)
}

const built = `name: made
program: /usr/bin/made
build:
  packages: [cc]
  from: src
  run: |
    mkdir -p $DESTDIR/usr/bin $DESTDIR/etc
    cp /usr/lib/cc/made $DESTDIR/usr/bin
    read text <main.c; echo "$text in $PWD" >$DESTDIR/etc/text
    for x in /home/* /root/* /work/* /dev/*; do echo $x >>$DESTDIR/etc/seen; done
    [ -z "$SECRET" ]; [ -r /proc/self/stat ]; echo lost >/dev/null
    while read net; do echo $net >>$DESTDIR/etc/net; done </proc/self/net/dev
`

func buildPackages(t *testing.T) map[string][]byte {
	return map[string][]byte{
		"dash": hostPrograms(t, "dash", "/bin/sh"), "coreutils": hostPrograms(t, "coreutils", "/bin/cp", "/bin/mkdir"),
		"cc": debtest.Package("cc", "", debtest.XZ, debtest.Reg("./usr/lib/cc/made", string(elftest.Make(elftest.Spec{Type: elf.ET_EXEC})))),
	}
}

func needBuildTools(t *testing.T) {
	t.Helper()
	for _, p := range []string{"unshare", "dpkg-deb", "mount", "chroot"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
}

func TestAProgramIsBuiltInARootOfPackages(t *testing.T) {
	needBuildTools(t)
	calls := debtest.FakeApt(t, buildPackages(t))
	t.Setenv("SECRET", "of this machine")
	o := &Options{Host: glibcHost(t), Cache: t.TempDir()}
	var said []string
	o.Log = func(format string, args ...any) { said = append(said, format) }
	m := parse(t, built, fstest.MapFS{"src/main.c": {Data: []byte("int main\n")}})
	killed := filepath.Join(o.Cache, "builds", ".root-1") // that of a pack which has no time to remove it
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(os.MkdirAll(filepath.Join(killed, "dest"), 0o755), os.Chtimes(killed, old, old)); err != nil {
		t.Fatal(err)
	}
	read := func(img *Image, name string) string {
		t.Helper()
		n, err := img.Root.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.ReadAll()
		if err != nil || n.MTime != tree.Epoch || n.UID != 0 {
			t.Errorf("%s: %+v %v", name, n, err)
		}
		return string(b)
	}
	for range 2 {
		img, err := FromManifest(context.Background(), m, o)
		if err != nil {
			t.Fatal(err)
		}
		if s := read(img, "/etc/text"); s != "int main in /build\n" {
			t.Errorf("made %q", s)
		}
		if s := read(img, "/etc/seen"); s != "/home/*\n/root/*\n/work/*\n/dev/full\n/dev/null\n/dev/random\n/dev/urandom\n/dev/zero\n" {
			t.Errorf("the build sees %q", s)
		}
		if s := read(img, "/etc/net"); strings.Count(s, ":") != 1 || !strings.Contains(s, "lo:") {
			t.Errorf("the build has a network:\n%s", s)
		}
		if _, err := img.Root.Lstat("/usr/lib/cc"); err == nil {
			t.Error("the compiler is in the image")
		}
	}
	if n := strings.Count(strings.Join(said, "\n"), "building"); n != 1 {
		t.Errorf("built %d times, and not once", n)
	}
	m.Dir = fstest.MapFS{"src/main.c": {Data: []byte("void main\n")}}
	if img, err := FromManifest(context.Background(), m, o); err != nil || read(img, "/etc/text") != "void main in /build\n" {
		t.Errorf("a changed source is not built: %v", err)
	}
	if n := strings.Count(calls(), " download "); n != 1 {
		t.Errorf("%d downloads", n)
	}
	m.Build.Run = "echo made; nosuchcommand"
	_, err := FromManifest(context.Background(), m, o)
	if err == nil || !strings.Contains(err.Error(), "made does not build") || !strings.Contains(err.Error(), "nosuchcommand") {
		t.Errorf("a mistake: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(o.Cache, "builds", ".root-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The same input gives the same image, whoever bakes.
func TestWhatABuildMakesDoesNotDependOnTheUmask(t *testing.T) {
	needBuildTools(t)
	debtest.FakeApt(t, buildPackages(t))
	m := parse(t, built, fstest.MapFS{"src/main.c": {Data: []byte("int main\n")}, "src/run": {Mode: 0o755}})
	m.Build.Run = "mkdir -p $DESTDIR/usr/bin $DESTDIR/srv; cp /usr/lib/cc/made $DESTDIR/usr/bin; cp main.c run $DESTDIR/srv; cp -a . $DESTDIR/all"
	o := &Options{Host: glibcHost(t), Cache: t.TempDir()}
	defer unix.Umask(unix.Umask(0o077))
	img, err := FromManifest(context.Background(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"/srv": "drwxr-xr-x", "/srv/main.c": "-rw-r--r--", "/srv/run": "-rwxr-xr-x", "/usr/bin/made": "-rwxr-xr-x",
		"/all": "drwxr-xr-x", "/all/main.c": "-rw-r--r--", "/all/run": "-rwxr-xr-x"} {
		if n, err := img.Root.Lstat(name); err != nil || n.Mode.String() != want {
			t.Errorf("%s: %+v %v", name, n, err)
		}
	}
}

// A Go program is for every machine that Kiln runs on, whatever the user builds for.
func TestAGoProgramIsBuiltForEveryMachine(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	t.Setenv("GOAMD64", "v3")
	m := parse(t, "name: x\nprogram: /usr/bin/x\nbuild: {go: src}\n", fstest.MapFS{"src/main.go": {Data: []byte("package main\n\nfunc main() {}\n")}})
	n, err := buildGo(context.Background(), &Options{}, m)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil || !slices.Contains(info.Settings, debug.BuildSetting{Key: "GOAMD64", Value: "v1"}) {
		t.Errorf("built with %+v, %v", info, err)
	}
}
