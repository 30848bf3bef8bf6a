package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"kiln/capstan/elfinfo"
)

type member struct {
	name string
	data []byte
}

func ar(members ...member) []byte {
	out := []byte("!<arch>\n")
	for _, m := range members {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		out = append(out, m.data...)
		if len(m.data)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}

func tarOf(headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		data := []byte(h.PAXRecords["data"])
		h.PAXRecords = nil
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(data))
		}
		h.ModTime = time.Unix(1e9, 0)
		if err := w.WriteHeader(&h); err != nil {
			panic(err)
		}
		w.Write(data)
	}
	w.Close()
	return b.Bytes()
}

func reg(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o4755, Uid: 3, Gid: 4, PAXRecords: map[string]string{"data": data}}
}

func testDeb(name, depends string, compress func([]byte) member, files ...tar.Header) []byte {
	control := tarOf(reg("./control", "Package: "+name+"\nVersion: 1:2.3\nArchitecture: amd64\nDepends: "+depends+"\nDescription: x\n Depends: no\n"))
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(control)
	w.Close()
	return ar(member{"debian-binary", []byte("2.0\n")}, member{"control.tar.gz", gz.Bytes()}, compress(tarOf(files...)))
}

func xzData(b []byte) member {
	var out bytes.Buffer
	w, _ := xz.NewWriter(&out)
	w.Write(b)
	w.Close()
	return member{"data.tar.xz", out.Bytes()}
}

func zstData(b []byte) member {
	w, _ := zstd.NewWriter(nil)
	return member{"data.tar.zst", w.EncodeAll(b, nil)}
}

func plainData(b []byte) member { return member{"data.tar", b} }

func TestPackagesOfEveryCompressionUnpackWithOwnersLinksAndMergedUsr(t *testing.T) {
	for name, comp := range map[string]func([]byte) member{"xz": xzData, "zst": zstData, "plain": plainData} {
		b := testDeb("p", "libc6 (>= 2.3), liba | libb, python3:any", comp,
			tar.Header{Typeflag: tar.TypeDir, Name: "./lib/", Mode: 0o755},
			reg("./lib/x86_64-linux-gnu/libz.so.1.2", "zlib"),
			tar.Header{Typeflag: tar.TypeSymlink, Name: "./lib/x86_64-linux-gnu/libz.so.1", Linkname: "libz.so.1.2"},
			tar.Header{Typeflag: tar.TypeLink, Name: "./usr/bin/hard", Linkname: "./lib/x86_64-linux-gnu/libz.so.1.2"})
		p, err := Read(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Name != "p" || p.Version != "1:2.3" || strings.Join(p.Depends, " ") != "libc6 liba python3" {
			t.Errorf("%s: %+v", name, p)
		}
		for _, path := range []string{"/usr/lib/x86_64-linux-gnu/libz.so.1.2", "/usr/bin/hard"} {
			n, err := p.Files.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			data, _ := n.ReadAll()
			if string(data) != "zlib" || n.UID != 3 || n.GID != 4 || n.Mode != fs.ModeSetuid|0o755 || n.MTime != 1e9 {
				t.Errorf("%s: %s is %q %+v", name, path, data, n)
			}
		}
		if n, err := p.Files.Lstat("/usr/lib/x86_64-linux-gnu/libz.so.1"); err != nil || n.Link != "libz.so.1.2" {
			t.Errorf("%s: link %+v %v", name, n, err)
		}
	}
}

func TestDamagedPackagesAreErrors(t *testing.T) {
	good := testDeb("p", "", xzData, reg("./a", strings.Repeat("data", 1000)))
	for n := 0; n < len(good)-1; n += 7 {
		if _, err := Read(bytes.NewReader(good[:n])); err == nil {
			t.Errorf("%d bytes of %d are taken for a package", n, len(good))
		}
	}
	for _, b := range [][]byte{[]byte("hello"), ar(member{"debian-binary", []byte("9.0\n")}),
		ar(member{"debian-binary", []byte("2.0\n")}, member{"data.tar.lzma", []byte("x")})} {
		if _, err := Read(bytes.NewReader(b)); err == nil {
			t.Errorf("%.30q is taken for a package", b)
		}
	}
}

// fakeApt puts an apt-get into PATH that serves packages from a folder.
func fakeApt(t *testing.T, debs map[string][]byte) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range debs {
		if err := os.WriteFile(filepath.Join(dir, name+"_1%3a2.3_amd64.deb"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := `#!/bin/sh
echo "$@" >> ` + dir + `/log
for last; do :; done
D=` + dir + `
[ "$last" = update ] && { [ -f $D/nonet ] && { echo "E: no network" >&2; exit 100; }; touch $D/updated; exit 0; }
[ -f $D/stale ] && [ ! -f $D/updated ] && { echo "E: Unable to locate package $last" >&2; exit 100; }
f=$(ls ` + dir + `/"$last"_*.deb 2>/dev/null)
[ "$f" ] || { echo "E: Unable to locate package $last" >&2; exit 100; }
case "$*" in
*--print-uris*) echo "'http://x/$(basename $f)' $(basename $f) 12 SHA256:0" ;;
*) cp "$f" . ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("FAKE_APT", dir)
	return func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "log"))
		return string(b)
	}
}

func TestMissingLibrariesComeFromDependencies(t *testing.T) {
	lib := reg("./usr/lib/x86_64-linux-gnu/libevent-2.1.so.7", "x")
	calls := fakeApt(t, map[string][]byte{
		"memd":           testDeb("memd", "adduser, libc6, libevent-2.1-7", xzData, reg("./usr/bin/memd", "x")),
		"libc6":          testDeb("libc6", "", xzData, reg("./lib/x86_64-linux-gnu/libc.so.6", "x")),
		"libevent-2.1-7": testDeb("libevent-2.1-7", "", xzData, lib),
	})
	f := &Fetcher{Dir: t.TempDir()}
	s, err := f.NewSet(context.Background(), []string{"memd"})
	if err != nil {
		t.Fatal(err)
	}
	ok, err := s.Provide(context.Background(), &elfinfo.MissingError{By: "memd", Name: "libevent-2.1.so.7"})
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if s.Package("libc6") != nil || s.Package("adduser") != nil {
		t.Errorf("fetched more than needed: %v", s.Names())
	}
	if ok, err := s.Provide(context.Background(), &elfinfo.MissingError{Name: "libnone.so.1"}); ok || err != nil {
		t.Error(ok, err)
	}
	// A second fetcher finds them in the cache and downloads nothing, asking apt or not.
	old := time.Now().Add(-2 * freshFor)
	file, _ := filepath.Glob(filepath.Join(f.Dir, "memd_*"))
	if len(file) != 1 || os.Chtimes(file[0], old, old) != nil {
		t.Fatal(file)
	}
	before := strings.Count(calls(), " download memd")
	g := &Fetcher{Dir: f.Dir}
	if _, err := g.NewSet(context.Background(), []string{"memd"}); err != nil {
		t.Fatal(err)
	}
	if after := strings.Count(calls(), " download memd"); before != 1 || after != 1 {
		t.Errorf("downloads: %d, then %d", before, after)
	}
}

func TestUnknownPackageSaysWhatToDo(t *testing.T) {
	fakeApt(t, nil)
	f := &Fetcher{Dir: t.TempDir()}
	for name, want := range map[string]string{"nosuch": "apt knows no package nosuch", "../x": "cannot be the name"} {
		if _, err := f.Get(context.Background(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := f.Get(context.Background(), "nginx"); err != ErrNoApt {
		t.Error(err)
	}
}

func TestWithoutNetworkTheCacheIsUsed(t *testing.T) {
	fakeApt(t, nil)
	f := &Fetcher{Dir: t.TempDir()}
	b := testDeb("memd", "", xzData, reg("./usr/bin/memd", "x"))
	file, old := filepath.Join(f.Dir, "memd_1%3a2.2_amd64.deb"), time.Now().Add(-2*freshFor)
	if err := errors.Join(os.WriteFile(file, b, 0o644), os.Chtimes(file, old, old)); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Get(context.Background(), "memd"); err != nil || p.Name != "memd" {
		t.Error(p, err)
	}
}

func TestWithoutPackageListsPackFetchesItsOwn(t *testing.T) {
	calls := fakeApt(t, map[string][]byte{"memd": testDeb("memd", "", xzData, reg("./usr/bin/memd", "x"))})
	dir := os.Getenv("FAKE_APT")
	for _, f := range []string{"stale", "nonet"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&Fetcher{Dir: t.TempDir()}).Get(context.Background(), "memd"); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("without network: %v", err)
	}
	os.Remove(filepath.Join(dir, "nonet"))
	f := &Fetcher{Dir: t.TempDir()}
	if p, err := f.Get(context.Background(), "memd"); err != nil || p.Name != "memd" {
		t.Fatal(p, err)
	}
	if !strings.Contains(calls(), "Dir::State::Lists="+f.Dir) {
		t.Errorf("the host's lists were touched:\n%s", calls())
	}
}
