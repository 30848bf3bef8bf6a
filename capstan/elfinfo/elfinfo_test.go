package elfinfo

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/capstan/elfinfo/elftest"
	"kiln/capstan/tree"
)

func parse(b []byte) (*Info, error) { return Parse(bytes.NewReader(b), int64(len(b)), "prog") }

func TestFilesThatCannotRunAreNamedForWhatTheyAre(t *testing.T) {
	good := elftest.Make(elftest.Spec{Needed: []string{"libc.so.6"}, Interp: "/lib64/ld.so"})
	be := bytes.Clone(good)
	be[5] = 2
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":     {nil, "is empty"},
		"text":      {[]byte("hello, world\n"), "is not an ELF file"},
		"script":    {[]byte("#!/bin/sh\necho\n"), `is a script for "/bin/sh"`},
		"windows":   {[]byte("MZ\x90\x00\x03"), "Windows"},
		"32-bit":    {elftest.Make(elftest.Spec{Class: elf.ELFCLASS32}), "32-bit program (32-bit x86)"},
		"x32":       {elftest.Make(elftest.Spec{Class: elf.ELFCLASS32, Machine: elf.EM_X86_64}), "x32"},
		"arm64":     {elftest.Make(elftest.Spec{Machine: elf.EM_AARCH64}), "64-bit Arm"},
		"riscv":     {elftest.Make(elftest.Spec{Machine: elf.EM_RISCV}), "RISC-V"},
		"bigendian": {be, "big-endian"},
		"object":    {elftest.Make(elftest.Spec{Type: elf.ET_REL}), "object file"},
		"core":      {elftest.Make(elftest.Spec{Type: elf.ET_CORE}), "core dump"},
		"header":    {good[:30], "truncated"},
		"cut":       {good[:len(good)-20], "truncated"},
	} {
		_, err := parse(c.b)
		var bad *Error
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "prog ") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), "\n") || !strings.ContainsAny(err.Error(), ":;") {
			t.Errorf("%s: %q is not one sentence with what to do", name, err)
		}
	}
}

func TestNoDamagedFilePanics(t *testing.T) {
	good := elftest.Make(elftest.Spec{Needed: []string{"a", "b"}, RunPath: "$ORIGIN/x:/y", Interp: "/i"})
	if _, err := parse(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := parse(good[:n]); err == nil {
			t.Errorf("the first %d of %d bytes parse", n, len(good))
		}
		for _, v := range []byte{0, 0x7f, 0x80, 0xff} {
			b := bytes.Clone(good)
			b[n] = v
			parse(b)
		}
	}
}

// put adds ELF files to a tree.
func put(t *testing.T, tr *tree.Tree, files map[string]elftest.Spec) {
	t.Helper()
	for name, s := range files {
		if err := tr.Add(name, tree.File(0o755, elftest.Make(s))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosureFollowsTheLoadersOrder(t *testing.T) {
	tr := tree.New()
	tr.Add("/lib", tree.Symlink("usr/lib"))
	tr.Add("/etc/ld.so.conf", tree.File(0o644, []byte("# comment\ninclude /etc/ld.so.conf.d/*.conf\n")))
	tr.Add("/etc/ld.so.conf.d/a.conf", tree.File(0o644, []byte("/opt/conf\n")))
	put(t, tr, map[string]elftest.Spec{
		"/opt/app/bin/prog":         {Interp: "/lib64/ld-linux-x86-64.so.2", Needed: []string{"liborigin.so", "libconf.so", "libsys.so.1", "libc.so.6"}, RunPath: "$ORIGIN/../lib:relative"},
		"/opt/app/lib/liborigin.so": {Needed: []string{"libdeep.so"}},
		// Not found by the program's RUNPATH, which is for its own needs alone.
		"/opt/app/lib/libdeep.so":                        {Soname: "wrong"},
		"/usr/lib/libdeep.so":                            {Soname: "right"},
		"/opt/conf/libconf.so":                           {},
		"/usr/lib/x86_64-linux-gnu/libsys.so.1.2":        {Needed: []string{"ld-linux-x86-64.so.2"}},
		"/usr/lib/x86_64-linux-gnu/libc.so.6":            {Needed: []string{"ld-linux-x86-64.so.2"}},
		"/usr/lib/libsys.so.1":                           {Soname: "wrong"},
		"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": {Soname: "ld-linux-x86-64.so.2"},
	})
	tr.Add("/lib64/ld-linux-x86-64.so.2", tree.Symlink("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"))
	tr.Add("/usr/lib/x86_64-linux-gnu/libsys.so.1", tree.Symlink("libsys.so.1.2"))
	c := NewClosure(tr)
	if err := c.Add("/opt/app/bin/prog"); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range c.Libraries() {
		got[l.Name] = l.Real
	}
	want := map[string]string{
		"/lib64/ld-linux-x86-64.so.2": "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
		"liborigin.so":                "/opt/app/lib/liborigin.so", "libdeep.so": "/usr/lib/libdeep.so",
		"libconf.so": "/opt/conf/libconf.so", "libsys.so.1": "/usr/lib/x86_64-linux-gnu/libsys.so.1.2",
		"libc.so.6": "/usr/lib/x86_64-linux-gnu/libc.so.6",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestRPathIsInheritedAndForeignLibrariesArePassedOver(t *testing.T) {
	tr := tree.New()
	put(t, tr, map[string]elftest.Spec{
		"/p/prog":        {Needed: []string{"liba.so"}, RPath: "/bad:/p/lib"},
		"/p/lib/liba.so": {Needed: []string{"libb.so"}},
		"/p/lib/libb.so": {},
		"/bad/liba.so":   {Machine: elf.EM_AARCH64},
	})
	c := NewClosure(tr)
	if err := c.Add("/p/prog"); err != nil {
		t.Fatal(err)
	}
	if len(c.Libraries()) != 2 || c.Libraries()[0].Real != "/p/lib/liba.so" {
		t.Errorf("%+v", c.Libraries())
	}
}

// ld.so: DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, the default places. musl: LD_LIBRARY_PATH,
// the tags of the file and of those that loaded it, its own places.
func TestLibraryPathHasItsPlaceInTheOrder(t *testing.T) {
	const musl = "/lib/ld-musl-x86_64.so.1"
	for _, c := range []struct {
		prog elftest.Spec
		env  string
		have string // folders that have liba.so
		want string
	}{
		{elftest.Spec{RPath: "/rpath"}, "/env", "/rpath /env /lib", "/rpath"},
		{elftest.Spec{RunPath: "/runpath"}, "/none:/env", "/runpath /env /lib", "/env"},
		{elftest.Spec{RPath: "/rpath", RunPath: "/runpath"}, "relative;/env", "/rpath /runpath /env", "/env"},
		{elftest.Spec{RunPath: "/runpath"}, "/env", "/runpath /lib", "/runpath"},
		{elftest.Spec{}, "$ORIGIN/../env", "/env /lib", "/env"},
		{elftest.Spec{}, "::", "/lib", "/lib"},
		{elftest.Spec{Interp: musl, RPath: "/rpath"}, "/env", "/rpath /env /usr/lib", "/env"},
		{elftest.Spec{Interp: musl, RPath: "/rpath"}, "/env", "/rpath /usr/lib", "/rpath"},
	} {
		tr := tree.New()
		c.prog.Needed = []string{"liba.so"}
		put(t, tr, map[string]elftest.Spec{"/bin/prog": c.prog, musl: {}, "/plugin/p.so": {Needed: []string{"libb.so"}}, "/env/libb.so": {}})
		for _, d := range strings.Fields(c.have) {
			put(t, tr, map[string]elftest.Spec{d + "/liba.so": {}})
		}
		cl := NewClosure(tr)
		if err := cl.AddProgram("/bin/prog", c.env); err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if libs := cl.Libraries(); libs[len(libs)-1].Path != c.want+"/liba.so" {
			t.Errorf("%+v: %+v", c, libs)
		}
		if err := cl.AddPlugin("/plugin/p.so", nil); (err == nil) != strings.Contains(c.env, "env") {
			t.Errorf("%+v: what the program loads: %v", c, err)
		}
	}
}

// Two products with libraries of their own under the same name, and a program and plugins
// that want the system's.
func TestNoProgramGetsAnothersLibraries(t *testing.T) {
	const ldso = "/lib64/ld-linux-x86-64.so.2"
	own := elftest.Spec{Interp: ldso, Needed: []string{"libfoo.so", "libssl.so", "libc.so"}, RunPath: "$ORIGIN/../lib"}
	needs := func(names ...string) elftest.Spec { return elftest.Spec{Needed: names} }
	files := map[string]elftest.Spec{
		ldso: {Soname: "ld-linux-x86-64.so.2"}, "/lib/libc.so": needs("ld-linux-x86-64.so.2"), "/lib/libssl.so": {}, "/lib/libbar.so": {},
		"/opt/a/bin/x": own, "/opt/a/lib/libfoo.so": needs("libonly.so"), "/opt/a/lib/libssl.so": {}, "/opt/b/bin/y": own, "/opt/b/lib/libfoo.so": {}, "/opt/b/lib/libssl.so": {},
		"/lib/libonly.so": {}, "/bin/z": {Interp: ldso, Needed: []string{"libssl.so"}}, "/bin/bar": {Interp: ldso, Needed: []string{"libbar.so"}},
		"/plugin/own.so": {Needed: []string{"libbar.so"}, RunPath: "/plugin"}, "/plugin/libbar.so": {}, "/plugin/ssl.so": needs("libssl.so", "ld-linux-x86-64.so.2"), "/plugin/foo.so": needs("libfoo.so"),
	}
	tr := tree.New()
	put(t, tr, files)
	for _, c := range []struct{ programs, plugins, want, cache string }{
		{"/opt/a/bin/x", "", "/lib/libc.so /lib/libonly.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so", "/lib/libc.so /lib/libonly.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so"},
		{"/opt/a/bin/x /opt/b/bin/y", "", "/lib/libc.so /lib/libonly.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so /opt/b/lib/libfoo.so /opt/b/lib/libssl.so", "/lib/libc.so /lib/libonly.so"},
		{"/opt/a/bin/x /bin/z", "", "/lib/libc.so /lib/libonly.so /lib/libssl.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so", "/lib/libc.so /lib/libonly.so /lib/libssl.so /opt/a/lib/libfoo.so"},
		// The one program has libssl.so in memory when its plugin comes, and libfoo.so.
		{"/opt/a/bin/x", "/plugin/ssl.so /plugin/foo.so", "/lib/libc.so /lib/libonly.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so", "/lib/libc.so /lib/libonly.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so"},
		// Of two programs one has it: the plugin may be the other's.
		{"/opt/a/bin/x /bin/bar", "/plugin/ssl.so", "/lib/libbar.so /lib/libc.so /lib/libonly.so /lib/libssl.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so", "/lib/libbar.so /lib/libc.so /lib/libonly.so /lib/libssl.so /opt/a/lib/libfoo.so"},
		{"/bin/bar", "/plugin/own.so", "/lib/libbar.so", "/lib/libbar.so"},
		{"/bin/z", "/plugin/own.so", "/lib/libssl.so /plugin/libbar.so", "/lib/libssl.so /plugin/libbar.so"},
		// A program that is started has nothing in memory.
		{"/opt/a/bin/x", "/bin/z", "/lib/libc.so /lib/libonly.so /lib/libssl.so /opt/a/lib/libfoo.so /opt/a/lib/libssl.so", "/lib/libc.so /lib/libonly.so /lib/libssl.so /opt/a/lib/libfoo.so"},
	} {
		cl := NewClosure(tr)
		for _, p := range strings.Fields(c.programs) {
			if err := cl.Add(p); err != nil {
				t.Error(err)
			}
		}
		for _, p := range strings.Fields(c.plugins) {
			if err := cl.AddPlugin(p, nil); err != nil {
				t.Error(err)
			}
		}
		var libs []string
		for _, l := range cl.Libraries() {
			if l.Name != ldso {
				libs = append(libs, l.Path)
			}
		}
		slices.Sort(libs)
		if got := strings.Join(libs, " "); got != c.want {
			t.Errorf("%s, %s:\ngot  %s\nwant %s", c.programs, c.plugins, got, c.want)
		}
		if got := strings.Join(slices.Sorted(maps.Values(cl.Cache())), " "); got != c.cache {
			t.Errorf("%s, %s: the cache\ngot  %s\nwant %s", c.programs, c.plugins, got, c.cache)
		}
	}
}

// What a program opens itself is found where its own loader looks: that of the second, if it is
// not for the first.
func TestANamedLibraryIsLookedForForEachProgram(t *testing.T) {
	const ldso, musl = "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"
	tr := tree.New()
	put(t, tr, map[string]elftest.Spec{
		ldso: {}, musl: {}, "/bin/a": {Interp: ldso}, "/bin/b": {Interp: musl}, "/opt/c": {Interp: ldso, RunPath: "$ORIGIN/lib"},
		"/usr/lib/x86_64-linux-gnu/libg.so": {}, "/usr/lib/x86_64-linux-musl/libm.so": {}, "/opt/lib/libc3.so": {},
		"/lib/x86_64-linux-gnu/libboth.so": {}, "/opt/lib/libboth.so": {},
	})
	programs := []string{"/bin/a", "/bin/b", "/opt/c"}
	cl := NewClosure(tr)
	for _, p := range programs {
		if err := cl.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	have := len(cl.Libraries())
	for _, l := range []string{"libg.so", "libm.so", "libc3.so", "libboth.so"} {
		if err := cl.AddLibrary(l, programs...); err != nil {
			t.Error(err)
		}
	}
	var got []string
	for _, l := range cl.Libraries()[have:] {
		got = append(got, l.Path)
	}
	if want := "/usr/lib/x86_64-linux-gnu/libg.so /usr/lib/x86_64-linux-musl/libm.so /opt/lib/libc3.so /lib/x86_64-linux-gnu/libboth.so /opt/lib/libboth.so"; strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	if err := cl.AddLibrary("libnone.so", programs...); err == nil || !strings.Contains(err.Error(), "/bin/a needs the library libnone.so") {
		t.Error(err)
	}
}

func TestMissingFilesAreNamedWithWhoNeedsThem(t *testing.T) {
	tr := tree.New()
	put(t, tr, map[string]elftest.Spec{
		"/a": {Interp: "/lib64/none.so"},
		"/b": {Needed: []string{"libnone.so.1"}},
		"/c": {Needed: []string{"libarm.so"}}, "/lib/libarm.so": {Machine: elf.EM_AARCH64},
	})
	for name, want := range map[string]string{
		"/a": "/a needs the interpreter /lib64/none.so, which is not there: ",
		"/b": "/b needs the library libnone.so.1, which is not there: ",
		"/c": "the only one found is no use: /lib/libarm.so is a program for 64-bit Arm",
	} {
		if err := NewClosure(tr).Add(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The loader is the oracle: for every program of this machine's /usr/bin that it can
// load, the closure has the files that it maps.
func TestClosureAgreesWithTheLoader(t *testing.T) {
	ldso := "/lib64/ld-linux-x86-64.so.2"
	if _, err := os.Stat(ldso); err != nil {
		t.Skip("no glibc here")
	}
	tried := 0
	for _, name := range []string{"/bin/ls", "/bin/bash", "/usr/bin/git", "/usr/bin/curl", "/usr/bin/perl", "/usr/bin/python3", "/usr/bin/apt-get", "/usr/bin/qemu-system-x86_64"} {
		out, err := exec.Command(ldso, "--list", name).Output()
		if err != nil {
			continue
		}
		tried++
		c := NewClosure(tree.HostSource{Dir: "/"})
		if err := c.Add(name); err != nil {
			t.Error(err)
			continue
		}
		have := map[string]bool{}
		for _, l := range c.Libraries() {
			have[l.Real] = true
		}
		n := 0
		for _, line := range strings.Split(string(out), "\n") {
			f := strings.Fields(line)
			if len(f) < 2 || !strings.HasPrefix(f[len(f)-2], "/") {
				continue
			}
			n++
			real, err := filepath.EvalSymlinks(f[len(f)-2])
			if err != nil {
				t.Fatal(err)
			}
			if !have[real] {
				t.Errorf("%s: the loader takes %s, the closure does not", name, real)
			}
		}
		if len(have) != n {
			t.Errorf("%s: the loader takes %d files, the closure %d", name, n, len(have))
		}
	}
	if tried == 0 {
		t.Skip("no program to try")
	}
}

func TestLoaderCacheIsReadByLdconfig(t *testing.T) {
	paths := map[string]string{"libz.so.1": "/lib/libz.so.1", "libz.so.12": "/lib/z12", "libz.so.2": "/x/z2", "liba2b.so": "/y/a", "liba10b.so": "/y/b", "lib": "/l"}
	b := LoaderCache(paths)
	name := filepath.Join(t.TempDir(), "cache")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	ldconfig := "/sbin/ldconfig"
	if _, err := os.Stat(ldconfig); err != nil {
		t.Skip("no ldconfig here")
	}
	out, err := exec.Command(ldconfig, "-p", "-C", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for n, p := range paths {
		if !strings.Contains(string(out), n+" (libc6,x86-64) => "+p+"\n") {
			t.Errorf("%s is not in\n%s", n, out)
		}
	}
	order := []string{"libz.so.12", "libz.so.2", "libz.so.1", "liba10b.so", "liba2b.so", "lib"}
	at := 0
	for _, n := range order {
		i := strings.Index(string(out), "\t"+n+" ")
		if i < at {
			t.Errorf("%s is out of order in\n%s", n, out)
		}
		at = i
	}
}
