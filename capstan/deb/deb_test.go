package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kiln/capstan/deb/debtest"
	"kiln/capstan/elfinfo"
)

func TestPackagesOfEveryCompressionUnpackWithOwnersLinksAndMergedUsr(t *testing.T) {
	for name, comp := range map[string]func([]byte) debtest.Member{"xz": debtest.XZ, "zst": debtest.Zstd, "plain": debtest.Plain} {
		b := debtest.Package("p", "libc6 (>= 2.3), liba | libb, python3:any", comp,
			tar.Header{Typeflag: tar.TypeDir, Name: "./lib/", Mode: 0o755},
			debtest.Reg("./lib/x86_64-linux-gnu/libz.so.1.2", "zlib"),
			tar.Header{Typeflag: tar.TypeSymlink, Name: "./lib/x86_64-linux-gnu/libz.so.1", Linkname: "libz.so.1.2"},
			tar.Header{Typeflag: tar.TypeLink, Name: "./usr/bin/hard", Linkname: "./lib/x86_64-linux-gnu/libz.so.1.2"})
		p, err := Read(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Name != "p" || p.Version != "1:2.3" || strings.Join(p.Depends(), " ") != "libc6 liba python3" || fmt.Sprint(p.Choices) != "[[libc6] [liba libb] [python3]]" {
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
	good := debtest.Package("p", "", debtest.XZ, debtest.Reg("./a", strings.Repeat("data", 1000)))
	for n := 0; n < len(good)-1; n += 7 {
		if _, err := Read(bytes.NewReader(good[:n])); err == nil {
			t.Errorf("%d bytes of %d are taken for a package", n, len(good))
		}
	}
	for _, b := range [][]byte{[]byte("hello"), debtest.Ar(debtest.Member{Name: "debian-binary", Data: []byte("9.0\n")}),
		debtest.Ar(debtest.Member{Name: "debian-binary", Data: []byte("2.0\n")}, debtest.Member{Name: "data.tar.lzma", Data: []byte("x")})} {
		if _, err := Read(bytes.NewReader(b)); err == nil {
			t.Errorf("%.30q is taken for a package", b)
		}
	}
}

func TestMissingLibrariesComeFromDependencies(t *testing.T) {
	lib := debtest.Reg("./usr/lib/x86_64-linux-gnu/libevent-2.1.so.7", "x")
	calls := debtest.FakeApt(t, map[string][]byte{
		"memd":           debtest.Package("memd", "adduser, libc6, libevent-2.1-7", debtest.XZ, debtest.Reg("./usr/bin/memd", "x")),
		"libc6":          debtest.Package("libc6", "", debtest.XZ, debtest.Reg("./lib/x86_64-linux-gnu/libc.so.6", "x")),
		"libevent-2.1-7": debtest.Package("libevent-2.1-7", "", debtest.XZ, lib),
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

// What this machine has installed from elsewhere does not keep the sources' version away.
func TestAVersionThatIsOnlyInstalledIsNotAskedFor(t *testing.T) {
	debtest.FakeApt(t, map[string][]byte{
		"node": debtest.Package("node", "", debtest.XZ, debtest.Reg("./usr/bin/node", "x")),
		"npm":  debtest.Package("npm", "node", debtest.XZ, debtest.Reg("./usr/bin/npm", "x")),
	})
	if err := os.WriteFile(filepath.Join(os.Getenv("FAKE_APT"), "node.installed"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := &Fetcher{Dir: t.TempDir()}
	if _, err := f.NewSet(context.Background(), []string{"node"}); err != nil {
		t.Error(err)
	}
	f = &Fetcher{Dir: t.TempDir()}
	if err := f.FetchAll(context.Background(), []string{"npm", "node"}); err != nil {
		t.Error(err)
	}
}

// A library deep among the dependencies is found by its package's name, and what lies
// nearer is not fetched to look into.
func TestALibraryIsLookedForByItsName(t *testing.T) {
	lib := func(name, depends, soname string) []byte {
		return debtest.Package(name, depends, debtest.XZ, debtest.Reg("./usr/lib/"+soname, "x"))
	}
	debtest.FakeApt(t, map[string][]byte{
		"db":        debtest.Package("db", "libhuge14, libkrb2", debtest.XZ, debtest.Reg("./usr/bin/db", "x")),
		"libhuge14": lib("libhuge14", "", "libHuge-14.so.1"), "libkrb2": lib("libkrb2", "libcom-err2, libother-data", "libkrb.so.2"),
		"libcom-err2": lib("libcom-err2", "", "libcom_err.so.2"), "libother-data": lib("libother-data", "", "libstrange.so.3"),
	})
	f := &Fetcher{Dir: t.TempDir()}
	s, err := f.NewSet(context.Background(), []string{"db"})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Provide(context.Background(), &elfinfo.MissingError{Name: "libcom_err.so.2"}); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if len(s.Names()) != 2 {
		t.Errorf("fetched more than needed: %v", s.Names())
	}
	// One whose package has another name is still looked for level by level.
	if ok, err := s.Provide(context.Background(), &elfinfo.MissingError{Name: "libstrange.so.3"}); !ok || err != nil {
		t.Error(ok, err)
	}
	// Without apt the cache gives the same.
	t.Setenv("PATH", t.TempDir())
	g := &Fetcher{Dir: f.Dir}
	if s, err = g.NewSet(context.Background(), []string{"db"}); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Provide(context.Background(), &elfinfo.MissingError{Name: "libcom_err.so.2"}); !ok || err != nil {
		t.Error("without apt:", ok, err)
	}
}

// Names that no package has (a virtual package, or one that is gone) may come first, among
// alternatives and among dependencies: neither ends the search, nor is the network asked for
// them before all else is looked into.
func TestNamesThatNoPackageHasDoNotEndTheSearch(t *testing.T) {
	pkg := func(name, depends, file string) []byte {
		return debtest.Package(name, depends, debtest.XZ, debtest.Reg(file, "x"))
	}
	calls := debtest.FakeApt(t, map[string][]byte{
		"icinga":       pkg("icinga", "libaaa-virtual, libboost-icu72 | libboost1 | libother1, libc6 (>= 2.36), libzzz2", "./usr/bin/icinga"),
		"libboost1":    pkg("libboost1", "", "./usr/lib/libregex.so.1"),
		"libother1":    pkg("libother1", "", "./usr/lib/libother.so.7"),
		"libc6":        pkg("libc6", "libgcc-virtual", "./lib64/ld-linux-x86-64.so.2"),
		"libzzz2":      pkg("libzzz2", "libdeep-data", "./usr/lib/libzzz.so"),
		"libdeep-data": pkg("libdeep-data", "", "./usr/lib/libdeep.so.1"),
	})
	dir := t.TempDir()
	s, err := (&Fetcher{Dir: dir}).NewSet(context.Background(), []string{"icinga"})
	if err != nil {
		t.Fatal(err)
	}
	provide := func(name string) (bool, error) {
		return s.Provide(context.Background(), &elfinfo.MissingError{Name: name})
	}
	for _, c := range []struct{ name, set string }{
		{"/lib64/ld-linux-x86-64.so.2", "icinga 1:2.3 libc6 1:2.3"}, // nothing but libc6 for an interpreter
		{"libregex.so.1", "icinga 1:2.3 libboost1 1:2.3 libc6 1:2.3"},
	} {
		ok, err := provide(c.name)
		if got := strings.Join(s.Names(), " "); !ok || err != nil || got != c.set {
			t.Errorf("%s: %v %v, the set is %s", c.name, ok, err, got)
		}
	}
	if log := calls(); strings.Contains(log, " update\n") {
		t.Errorf("the network was asked for names that no package has:\n%s", log)
	}
	if ok, err := provide("libdeep.so.1"); !ok || err != nil {
		t.Errorf("behind names that no package has: %v %v", ok, err)
	}
	if ok, err := provide("libother.so.7"); ok || err != nil {
		t.Errorf("what none of the packages has: %v %v", ok, err)
	}
	// One that cannot be fetched is another matter.
	broken := filepath.Join(os.Getenv("FAKE_APT"), "libaaa-virtual_1_amd64.deb")
	if err := os.WriteFile(broken, []byte("no package"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err = (&Fetcher{Dir: dir}).NewSet(context.Background(), []string{"icinga"}); err != nil {
		t.Fatal(err)
	}
	if ok, err := provide("libother.so.7"); ok || err == nil || !strings.Contains(err.Error(), "libaaa-virtual") {
		t.Errorf("what may be in a package that cannot be read: %v %v", ok, err)
	}
}

// A closure is apt's answer for an empty machine; it is fetched in one go, and kept.
func TestAClosureIsWhatAptWouldInstall(t *testing.T) {
	pkg := func(name string) []byte {
		return debtest.Package(name, "", debtest.Plain, debtest.Reg("./usr/"+name, "x"))
	}
	calls := debtest.FakeApt(t, map[string][]byte{"cc": pkg("cc"), "libc-dev": pkg("libc-dev"), "sh": pkg("sh"), "other": pkg("other")})
	if err := os.WriteFile(filepath.Join(os.Getenv("FAKE_APT"), "cc.depends"), []byte("libc-dev"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := &Fetcher{Dir: t.TempDir()}
	want := ""
	for _, n := range []string{"cc", "libc-dev", "sh"} {
		want += filepath.Join(f.Dir, n+"_1:2.3_amd64.deb") + " "
	}
	ask := func(f *Fetcher) {
		t.Helper()
		files, err := f.Closure(context.Background(), []string{"sh", "cc"})
		if got := strings.Join(files, " ") + " "; err != nil || got != want {
			t.Errorf("%v: %s, expected %s", err, got, want)
		}
		for _, file := range files {
			if _, err := ReadFile(file); err != nil {
				t.Error(err)
			}
		}
	}
	killed := filepath.Join(f.Dir, ".fetch-1") // that of a pack which has no time to remove it
	long := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Mkdir(killed, 0o700), os.Chtimes(killed, long, long)); err != nil {
		t.Fatal(err)
	}
	ask(f)
	if _, err := os.Stat(killed); err == nil {
		t.Errorf("%s is still there", killed)
	}
	log := calls()
	if n := strings.Count(log, " download "); n != 1 || !strings.Contains(log, "Dir::State::status=/dev/null") {
		t.Errorf("%d downloads:\n%s", n, log)
	}
	ask(&Fetcher{Dir: f.Dir})
	if calls() != log {
		t.Errorf("apt was asked again within a day:\n%s", calls())
	}
	t.Setenv("PATH", t.TempDir())
	lists, _ := filepath.Glob(filepath.Join(f.Dir, "closure-*"))
	old := time.Now().Add(-2 * freshFor)
	if len(lists) != 1 || os.Chtimes(lists[0], old, old) != nil {
		t.Fatal(lists)
	}
	ask(&Fetcher{Dir: f.Dir}) // without apt
	os.Remove(filepath.Join(f.Dir, "sh_1:2.3_amd64.deb"))
	if files, err := f.Closure(context.Background(), []string{"sh", "cc"}); err == nil {
		t.Errorf("a file that is gone: %v", files)
	}
}

// What depends on much is fetched in one go, and unpacked only as far as it is needed.
func TestDependenciesAreFetchedInOneGo(t *testing.T) {
	calls := debtest.FakeApt(t, map[string][]byte{
		"av":       debtest.Package("av", "libav5, libother", debtest.XZ, debtest.Reg("./usr/bin/av", "x")),
		"libav5":   debtest.Package("libav5", "libcodec", debtest.XZ, debtest.Reg("./usr/lib/libav.so.5", "x")),
		"libcodec": debtest.Package("libcodec", "", debtest.XZ, debtest.Reg("./usr/lib/libstrange.so.3", "x")),
		"libother": debtest.Package("libother", "", debtest.XZ, debtest.Reg("./usr/lib/libother.so", "x")),
	})
	if err := os.WriteFile(filepath.Join(os.Getenv("FAKE_APT"), "av.depends"), []byte("libav5 libcodec libother"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := &Fetcher{Dir: t.TempDir()}
	if err := f.FetchAll(context.Background(), []string{"av"}); err != nil {
		t.Fatal(err)
	}
	log := calls()
	s, err := f.NewSet(context.Background(), []string{"av"})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Provide(context.Background(), &elfinfo.MissingError{Name: "libav.so.5"}); !ok || err != nil {
		t.Error(ok, err)
	}
	if len(s.Names()) != 2 {
		t.Errorf("unpacked %v", s.Names())
	}
	if ok, err := s.Provide(context.Background(), &elfinfo.MissingError{Name: "libstrange.so.3"}); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := s.Provide(context.Background(), &elfinfo.MissingError{Name: "libnone.so.1"}); ok || err != nil {
		t.Error(ok, err)
	}
	if n := strings.Count(log, " download "); n != 1 || calls() != log {
		t.Errorf("%d downloads:\n%s", n, calls())
	}
}

func TestAClosureOfWhatIsNotThereSaysSo(t *testing.T) {
	debtest.FakeApt(t, nil)
	for name, want := range map[string]string{"nosuch": "apt knows no package nosuch", "../x": "cannot be the name"} {
		if _, err := (&Fetcher{Dir: t.TempDir()}).Closure(context.Background(), []string{name, "zlib"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownPackageSaysWhatToDo(t *testing.T) {
	debtest.FakeApt(t, nil)
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
	debtest.FakeApt(t, nil)
	f := &Fetcher{Dir: t.TempDir()}
	b := debtest.Package("memd", "", debtest.XZ, debtest.Reg("./usr/bin/memd", "x"))
	file, old := filepath.Join(f.Dir, "memd_1%3a2.2_amd64.deb"), time.Now().Add(-2*freshFor)
	if err := errors.Join(os.WriteFile(file, b, 0o644), os.Chtimes(file, old, old)); err != nil {
		t.Fatal(err)
	}
	if p, err := f.Get(context.Background(), "memd"); err != nil || p.Name != "memd" {
		t.Error(p, err)
	}
}

func TestWithoutPackageListsPackFetchesItsOwn(t *testing.T) {
	calls := debtest.FakeApt(t, map[string][]byte{"memd": debtest.Package("memd", "", debtest.XZ, debtest.Reg("./usr/bin/memd", "x"))})
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

func TestPacksThatNeedListsAtOnceFetchThemOnce(t *testing.T) {
	calls := debtest.FakeApt(t, map[string][]byte{"memd": debtest.Package("memd", "", debtest.XZ, debtest.Reg("./usr/bin/memd", "x"))})
	if err := os.WriteFile(filepath.Join(os.Getenv("FAKE_APT"), "stale"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	errs := make(chan error)
	const packs = 3
	for range packs {
		go func() {
			// As of one that has found that the host's lists are no use.
			errs <- (&Fetcher{Dir: dir}).update(context.Background())
		}()
	}
	for range packs {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(calls(), " update\n"); n != 1 {
		t.Errorf("%d updates:\n%s", n, calls())
	}
}

func TestWhoWaitsForListsCanBeInterrupted(t *testing.T) {
	debtest.FakeApt(t, nil)
	f := &Fetcher{Dir: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(f.Dir, "apt"), 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := f.lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	waits := &Fetcher{Dir: f.Dir, Log: func(string, ...any) { cancel() }}
	if err := waits.update(ctx); err != context.Canceled {
		t.Error(err)
	}
	unlock()
	if err := waits.update(context.Background()); err != nil {
		t.Error(err)
	}
}
