package bake

import (
	"archive/tar"
	"context"
	"debug/elf"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"kiln/capstan/deb/debtest"
	"kiln/capstan/elfinfo"
	"kiln/capstan/elfinfo/elftest"
	"kiln/capstan/manifest"
	"kiln/capstan/tree"
)

const ldso = "/lib64/ld-linux-x86-64.so.2"

var dynamic = elftest.Spec{Type: elf.ET_EXEC, Interp: ldso, Needed: []string{"libweb.so.1", "libc.so.6"}}

// glibcHost is a host with a C library and nothing else.
func glibcHost(t *testing.T) *tree.Tree {
	t.Helper()
	h := tree.New()
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		h.Add("/"+d, tree.Symlink("usr/"+d))
	}
	h.Add("/usr/lib64/ld-linux-x86-64.so.2", tree.File(0o755, elftest.Make(elftest.Spec{Soname: "ld-linux-x86-64.so.2"})))
	h.Add("/usr/lib/x86_64-linux-gnu/libc.so.6", tree.File(0o644, elftest.Make(elftest.Spec{Needed: []string{"ld-linux-x86-64.so.2"}})))
	return h
}

func parse(t *testing.T, doc string, files fstest.MapFS) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	m.Dir = files
	return m
}

const webManifest = `name: web
program: /usr/sbin/web
packages: [web]
files:
  - {path: /etc/web/types}
  - {path: /etc/web/web.conf, from: web.conf, mode: 0600, uid: 33}
  - {path: /var/log/web, dir: true}
  - {path: /etc/web/none, optional: true}
  - {path: /usr/share/web, exclude: [test, "sub/x*"]}
users: [{name: www, uid: 33, gid: 34}]
`

func webPackages() map[string][]byte {
	elfData := func(s elftest.Spec) string { return string(elftest.Make(s)) }
	return map[string][]byte{
		"web": debtest.Package("web", "libc6, libweb1, web-data", debtest.XZ, debtest.Reg("./usr/sbin/web", elfData(dynamic)),
			debtest.Reg("./etc/web/types", "types"), debtest.Reg("./usr/share/web/keep", "k"), debtest.Reg("./usr/share/web/test/t", "t"),
			debtest.Reg("./usr/share/web/sub/x1", "x"), debtest.Reg("./usr/share/web/sub/y", "y")),
		"libweb1": debtest.Package("libweb1", "", debtest.Zstd, debtest.Reg("./usr/lib/x86_64-linux-gnu/libweb.so.1", elfData(elftest.Spec{}))),
	}
}

func TestWhoHasAShellCanLogIn(t *testing.T) {
	debtest.FakeApt(t, webPackages())
	o := &Options{Host: glibcHost(t), Cache: t.TempDir()}
	text := strings.Replace(webManifest, "users: [", "users: [{name: root, shell: /bin/sh, password: $6$x}, ", 1)
	img, err := FromManifest(context.Background(), parse(t, text, fstest.MapFS{"web.conf": {Data: []byte("conf")}}), o)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]string{
		"/etc/passwd": {"root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/nonexistent:/usr/sbin/nologin\n", "-rw-r--r--"},
		"/etc/shadow": {"root:$6$x:19000:0:99999:7:::\nwww:*:", "-rw-------"},
		"/etc/shells": {"/bin/sh\n", "-rw-r--r--"},
		"/etc/group":  {"nogroup:x:65534:\ntty:x:5:\n", "-rw-r--r--"},
	} {
		n, err := img.Root.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := n.ReadAll(); !strings.Contains(string(b), want[0]) || n.Mode.String() != want[1] {
			t.Errorf("%s %v:\n%s", name, n.Mode, b)
		}
	}
}

func TestAProgramThatTheHostLacksComesFromPackages(t *testing.T) {
	debtest.FakeApt(t, webPackages())
	o := &Options{Host: glibcHost(t), Cache: t.TempDir()}
	m := parse(t, webManifest, fstest.MapFS{"web.conf": {Data: []byte("conf")}})
	img, err := FromManifest(context.Background(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]fs.FileMode{
		"/usr/sbin/web": fs.ModeSetuid | 0o755, "/etc/web/types": fs.ModeSetuid | 0o755, "/etc/web/web.conf": 0o600,
		"/var/log/web": fs.ModeDir | 0o755, "/usr/share/web/keep": fs.ModeSetuid | 0o755, "/usr/share/web/sub/y": fs.ModeSetuid | 0o755,
		"/usr/lib/x86_64-linux-gnu/libweb.so.1": fs.ModeSetuid | 0o755, "/usr/lib/x86_64-linux-gnu/libc.so.6": 0o644,
		"/usr/lib64/ld-linux-x86-64.so.2": 0o755, "/lib64": fs.ModeSymlink | 0o777, "/tmp": fs.ModeDir | fs.ModeSticky | 0o777,
		"/etc/ld.so.cache": 0o644,
	} {
		if n, err := img.Root.Lstat(p); err != nil || n.Mode != want {
			t.Errorf("%s: %+v %v", p, n, err)
		}
	}
	for _, p := range []string{"/usr/share/web/test", "/usr/share/web/sub/x1", "/etc/web/none"} {
		if _, err := img.Root.Lstat(p); err == nil {
			t.Errorf("%s is there", p)
		}
	}
	if n, _ := img.Root.Lstat("/etc/web/web.conf"); n.UID != 33 {
		t.Errorf("owner %d", n.UID)
	}
	passwd, _ := img.Root.Lstat("/etc/passwd")
	if b, _ := passwd.ReadAll(); !strings.Contains(string(b), "\nwww:x:33:34:") {
		t.Errorf("%s", b)
	}
	if strings.Join(img.Packages, ", ") != "libweb1 1:2.3, web 1:2.3" {
		t.Errorf("packages %v", img.Packages)
	}
	// Again without apt: the cache has all.
	t.Setenv("PATH", t.TempDir())
	if _, err := FromManifest(context.Background(), m, o); err != nil {
		t.Errorf("without apt: %v", err)
	}
	o.Cache = t.TempDir()
	if _, err := FromManifest(context.Background(), m, o); err == nil || !strings.Contains(err.Error(), "/usr/sbin/web is not on this machine") {
		t.Errorf("without apt and cache: %v", err)
	}
}

func TestAProgramOfTheHostNeedsNoPackages(t *testing.T) {
	calls := debtest.FakeApt(t, nil)
	h := glibcHost(t)
	h.Add("/usr/sbin/web", tree.File(0o755, elftest.Make(dynamic)))
	h.Add("/etc/ld.so.conf", tree.File(0o644, []byte("/opt/web/lib\n")))
	h.Add("/opt/web/lib/libweb.so.1", tree.File(0o755, elftest.Make(elftest.Spec{})))
	h.Add("/etc/web/types", tree.File(0o644, nil))
	h.Add("/usr/share/web/plugin.so", tree.File(0o755, elftest.Make(elftest.Spec{Needed: []string{"libplug.so"}, RunPath: "$ORIGIN"})))
	h.Add("/usr/share/web/libplug.so", tree.File(0o755, elftest.Make(elftest.Spec{})))
	m := parse(t, webManifest, fstest.MapFS{"web.conf": {Data: []byte("conf")}})
	img, err := FromManifest(context.Background(), m, &Options{Host: h, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if c := calls(); c != "" {
		t.Errorf("apt was asked: %s", c)
	}
	// A library that only ld.so.conf names is found in the image through its cache.
	cache, err := img.Root.Lstat(elfinfo.CachePath)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := cache.ReadAll(); !strings.Contains(string(b), "/opt/web/lib/libweb.so.1\x00") {
		t.Errorf("%q", b)
	}
	h.Add("/usr/share/web/plugin.so", tree.File(0o755, elftest.Make(elftest.Spec{Needed: []string{"libgone.so"}})))
	m.Packages = nil
	if _, err := FromManifest(context.Background(), m, &Options{Host: h, Cache: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "/usr/share/web/plugin.so needs the library libgone.so") {
		t.Errorf("a plugin without its library: %v", err)
	}
}

// As a JVM's: what it loads needs the JVM's own library, which lies where no loader looks
// and is in memory by then. One that is nowhere is missed all the same.
func TestAPluginFindsItsProgramsOwnLibrary(t *testing.T) {
	h := glibcHost(t)
	h.Add("/usr/bin/vm", tree.File(0o755, elftest.Make(elftest.Spec{Needed: []string{"libc.so.6"}})))
	h.Add("/usr/lib/vm/server/libvm.so", tree.File(0o644, elftest.Make(elftest.Spec{})))
	plugin := func(needed string) {
		h.Add("/usr/lib/vm/libplugin.so", tree.File(0o644, elftest.Make(elftest.Spec{Needed: []string{needed}})))
	}
	m := parse(t, "name: vm\nprogram: /usr/bin/vm\nfiles: [{path: /usr/lib/vm}]\n", nil)
	plugin("libvm.so")
	if _, err := FromManifest(context.Background(), m, &Options{Host: h, Cache: t.TempDir()}); err != nil {
		t.Error(err)
	}
	plugin("libother.so")
	if _, err := FromManifest(context.Background(), m, &Options{Host: h, Cache: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "needs the library libother.so") {
		t.Errorf("a plugin without its library: %v", err)
	}
}

// The environment that a program starts with is the image's, and so is its LD_LIBRARY_PATH:
// the manifest's or the program's own.
func TestLibrariesAreFoundByTheImagesLibraryPath(t *testing.T) {
	h := glibcHost(t)
	h.Add("/usr/bin/tool", tree.File(0o755, elftest.Make(elftest.Spec{Interp: ldso, Needed: []string{"libtool.so.1"}})))
	h.Add("/usr/bin/other", tree.File(0o755, elftest.Make(elftest.Spec{Type: elf.ET_EXEC})))
	h.Add("/opt/tool/lib/libtool.so.1", tree.File(0o644, elftest.Make(elftest.Spec{})))
	const tool, path = "program: /usr/bin/tool", "env: {LD_LIBRARY_PATH: /opt/tool/lib}"
	for text, fails := range map[string]bool{
		tool:               true,
		tool + "\n" + path: false,
		"programs: [{name: a, program: /usr/bin/other}, {name: b, " + tool + ", " + path + "}]":                          false,
		path + "\nprograms: [{name: a, program: /usr/bin/other}, {name: b, " + tool + ", env: {LD_LIBRARY_PATH: /opt}}]": true,
		"programs: [{name: a, program: /usr/bin/other, " + path + ", health: {command: [/usr/bin/tool]}}]":               false,
		"programs: [{name: b, pipeline: [{program: /usr/bin/other, " + path + "}, {" + tool + "}]}]":                     true,
		"program: /usr/bin/other\nfiles: [{path: /usr/bin/tool}]\n" + "env: {LD_LIBRARY_PATH: \"/none:/opt/tool/lib\"}":  false,
	} {
		img, err := FromManifest(context.Background(), parse(t, "name: x\n"+text+"\n", nil), &Options{Host: h, Cache: t.TempDir()})
		if fails && (err == nil || !strings.Contains(err.Error(), "/usr/bin/tool needs the library libtool.so.1")) {
			t.Errorf("%s: %v", text, err)
		}
		if fails {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if _, err := img.Root.Lstat("/opt/tool/lib/libtool.so.1"); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// glibc opens libgcc_s.so.1 itself where a thread ends by pthread_exit(3), and aborts the
// program that has none.
func TestWhatGlibcOpensItselfComesWithIt(t *testing.T) {
	const gcc = "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1"
	packages := webPackages()
	packages["libc6"] = debtest.Package("libc6", "libgcc-s1", debtest.XZ, debtest.Reg("./lib/x86_64-linux-gnu/libc.so.6", string(elftest.Make(elftest.Spec{}))),
		debtest.Reg("./lib64/ld-linux-x86-64.so.2", string(elftest.Make(elftest.Spec{}))))
	packages["libgcc-s1"] = debtest.Package("libgcc-s1", "", debtest.XZ, debtest.Reg("./lib/x86_64-linux-gnu/libgcc_s.so.1", string(elftest.Make(elftest.Spec{Needed: []string{"libc.so.6"}}))))
	without, with, static := glibcHost(t), glibcHost(t), glibcHost(t)
	for h, spec := range map[*tree.Tree]elftest.Spec{without: {Interp: ldso, Needed: []string{"libc.so.6"}}, with: {Interp: ldso, Needed: []string{"libc.so.6"}}, static: {Type: elf.ET_EXEC}} {
		h.Add("/usr/sbin/web", tree.File(0o755, elftest.Make(spec)))
	}
	for _, h := range []*tree.Tree{with, static} {
		h.Add(gcc, tree.File(0o644, elftest.Make(elftest.Spec{})))
	}
	doc := "name: web\nprogram: /usr/sbin/web\npackages: [web]\n"
	for _, c := range []struct {
		name string
		host *tree.Tree
		want bool
	}{{"a host that has it", with, true}, {"a host that has none", without, false}, {"a static program", static, false}, {"packages", tree.New(), true}} {
		calls := debtest.FakeApt(t, packages)
		img, err := FromManifest(context.Background(), parse(t, doc, nil), &Options{Host: c.host, Cache: t.TempDir()})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if _, err := img.Root.Lstat(gcc); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
		cache, _ := img.Root.Lstat(elfinfo.CachePath)
		if cache != nil {
			if b, _ := cache.ReadAll(); strings.Contains(string(b), "libgcc_s.so.1\x00") != c.want {
				t.Errorf("%s: the cache is %q", c.name, b)
			}
		}
		if c.name != "packages" && calls() != "" {
			t.Errorf("%s: apt was asked: %s", c.name, calls())
		}
	}
}

func TestPackagesBakeByName(t *testing.T) {
	debtest.FakeApt(t, webPackages())
	o := &Options{Host: glibcHost(t), Cache: t.TempDir()}
	img, err := FromPackage(context.Background(), "web", "", o)
	if err != nil {
		t.Fatal(err)
	}
	if img.Config.Program != "/usr/sbin/web" || img.Config.Name != "web" {
		t.Errorf("%+v", img.Config)
	}
	if _, err := FromPackage(context.Background(), "web", "/usr/bin/other", o); err == nil || !strings.Contains(err.Error(), "/usr/bin/other") {
		t.Error(err)
	}
	if _, err := FromPackage(context.Background(), "libweb1", "", o); err == nil || !strings.Contains(err.Error(), "no program") {
		t.Error(err)
	}
}

func TestMuslProgramsFindTheirLibraryByTheLoadersName(t *testing.T) {
	h := tree.New()
	h.Add("/lib/ld-musl-x86_64.so.1", tree.File(0o755, elftest.Make(elftest.Spec{Soname: "libc.so"})))
	h.Add("/usr/bin/prog", tree.File(0o755, elftest.Make(elftest.Spec{Interp: "/lib/ld-musl-x86_64.so.1", Needed: []string{"libc.so"}})))
	m := parse(t, "name: prog\nprogram: /usr/bin/prog\n", nil)
	img, err := FromManifest(context.Background(), m, &Options{Host: h, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := tree.Resolve(img.Root, "/lib/ld-musl-x86_64.so.1"); err != nil {
		t.Error(err)
	}
}

func TestKernelIsFoundOrItsLackExplained(t *testing.T) {
	t.Setenv(KernelEnv, "")
	t.Chdir(t.TempDir())
	if _, err := FindKernel(""); err == nil || !strings.Contains(err.Error(), "make kernel") {
		t.Error(err)
	}
	dir := t.TempDir()
	t.Setenv(KernelEnv, filepath.Join(dir, "none"))
	if _, err := FindKernel(""); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Error(err)
	}
}

// All files of a package come, below a path or not, without what is excluded and without
// documentation: from dpkg's list where it is installed, else from the package.
func TestAPackagesFilesComeWhole(t *testing.T) {
	const text = `
name: tool
program: /usr/bin/tool
packages: [tool]
files:
  - {package: tool-data, exclude: [skip, "sub/x*"]}
  - {package: tool-more, path: /usr/share/more}
`
	data := []string{"/usr/share/tool/a", "/usr/share/tool/skip/deep/b", "/usr/share/doc/tool/c", "/usr/bin/tool-helper"}
	more := []string{"/usr/share/more/d", "/usr/share/moreover/e"}
	var files [2][]tar.Header
	host := tree.New()
	for i, names := range [][]string{data, more} {
		for _, n := range names {
			files[i] = append(files[i], debtest.Reg("."+n, "x"))
			host.Add(n, tree.File(0o644, []byte("x")))
		}
	}
	installPackage(t, host, "tool-data", append(data, "/usr/share/taken-away")...)
	installPackage(t, host, "tool-more:amd64", more...)
	host.Add("/usr/bin/tool", tree.File(0o755, elftest.Make(elftest.Spec{})))
	for name, h := range map[string]*tree.Tree{"packages": tree.New(), "host": host} {
		calls := debtest.FakeApt(t, map[string][]byte{
			"tool":      debtest.Package("tool", "", debtest.XZ, debtest.Reg("./usr/bin/tool", string(elftest.Make(elftest.Spec{})))),
			"tool-data": debtest.Package("tool-data", "", debtest.XZ, files[0]...),
			"tool-more": debtest.Package("tool-more", "", debtest.XZ, files[1]...),
		})
		img, err := FromManifest(context.Background(), parse(t, text, nil), &Options{Host: h, Cache: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		img.Root.Walk(func(n string, _ *tree.Node) error {
			if strings.HasPrefix(n, "/usr/share/") || strings.HasPrefix(n, "/usr/bin/") {
				got = append(got, n)
			}
			return nil
		})
		want := "/usr/bin/tool /usr/bin/tool-helper /usr/share/more /usr/share/more/d /usr/share/tool /usr/share/tool/a"
		if strings.Join(got, " ") != want {
			t.Errorf("from the %s: %v", name, got)
		}
		if c := calls(); name == "host" && c != "" {
			t.Errorf("apt was asked: %s", c)
		}
	}
}

func TestAScriptBringsItsInterpreter(t *testing.T) {
	debtest.FakeApt(t, map[string][]byte{"shell": debtest.Package("shell", "", debtest.XZ,
		debtest.Reg("./usr/bin/shell", string(elftest.Make(elftest.Spec{Interp: "/lib64/ld-linux-x86-64.so.2", Needed: []string{"libc.so.6"}}))))})
	h := glibcHost(t)
	for name, text := range map[string]string{"script": "#! /usr/bin/run -x\n", "run": "#!/usr/bin/shell", "self": "#!/usr/bin/self\n", "bare": "#!shell\n", "none": "#!/usr/bin/nosuch\n"} {
		h.Add("/usr/bin/"+name, tree.File(0o755, []byte(text+strings.Repeat(" ", 80))))
	}
	bake := func(name string) (*Image, error) {
		doc := "name: x\nprogram: /usr/bin/" + name + "\npackages: [shell]\n"
		return FromManifest(context.Background(), parse(t, doc, nil), &Options{Host: h, Cache: t.TempDir()})
	}
	img, err := bake("script")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/usr/bin/script", "/usr/bin/run", "/usr/bin/shell", "/usr/lib/x86_64-linux-gnu/libc.so.6"} {
		if _, err := img.Root.Lstat(p); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{"self": "too deep", "bare": "no interpreter by an absolute path", "none": "script for /usr/bin/nosuch"} {
		if _, err := bake(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What env(1) starts is found by PATH, the program's, in what the root has first.
func TestAScriptForEnvBringsWhatEnvStarts(t *testing.T) {
	static := tree.File(0o755, elftest.Make(elftest.Spec{Type: elf.ET_EXEC}))
	debtest.FakeApt(t, map[string][]byte{"py": debtest.Package("py", "", debtest.XZ,
		debtest.Reg("./usr/bin/py", string(elftest.Make(elftest.Spec{Interp: ldso, Needed: []string{"libc.so.6"}}))))})
	h := glibcHost(t)
	for _, p := range []string{"/usr/bin/env", "/usr/bin/lua", "/usr/local/bin/lua", "/opt/bin/tcl", "/usr/bin/run"} {
		h.Add(p, static)
	}
	h.Add("/usr/bin/rc", tree.File(0o755, []byte("#!/usr/bin/run"+strings.Repeat(" ", 80))))
	h.Add("/usr/local/bin/py", tree.File(0o644, nil)) // may not be executed
	for _, c := range []struct{ line, files, env, want, fails string }{
		{"/usr/bin/env py", "", "", "/usr/bin/py /usr/lib/x86_64-linux-gnu/libc.so.6", ""},
		{"/usr/bin/env -S -i A=b py -u x", "", "", "/usr/bin/py", ""},
		{"/usr/bin/env lua", "", "", "/usr/local/bin/lua", ""},
		{"/usr/bin/env lua", "{path: /usr/bin/lua}, ", "", "/usr/bin/lua", ""},
		{"/usr/bin/env lua", "", "PATH: /usr/bin", "/usr/bin/lua", ""},
		{"/usr/bin/env /opt/bin/tcl", "", "", "/opt/bin/tcl", ""},
		{"/usr/bin/env rc", "", "", "/usr/bin/rc /usr/bin/run", ""},
		{"/usr/bin/env tcl", "", "", "", "/srv/script is a script for tcl, which is in no folder of its PATH"},
		{"/usr/bin/env tcl", "", "PATH: \"/bin:/opt/bin\"", "/opt/bin/tcl", ""},
		{"/usr/bin/env -S PATH=/opt/bin tcl", "", "", "", ""},
		{"/usr/bin/env", "", "", "", ""},
	} {
		doc := "name: x\nprogram: /srv/script\npackages: [py]\nenv: {" + c.env + "}\nfiles: [" + c.files + "{path: /srv/script, from: script, mode: 0755}]\n"
		m := parse(t, doc, fstest.MapFS{"script": {Data: []byte("#! " + c.line + "\n")}})
		img, err := FromManifest(context.Background(), m, &Options{Host: h, Cache: t.TempDir()})
		if c.fails != "" || err != nil {
			if c.fails == "" || err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		for _, p := range append(strings.Fields(c.want), "/usr/bin/env") {
			if _, err := img.Root.Lstat(p); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
		}
		if _, err := img.Root.Lstat("/usr/local/bin/lua"); (err == nil) != strings.Contains(c.want, "local") {
			t.Errorf("%+v: another one: %v", c, err)
		}
	}
}

func TestSeveralProgramsComeWithTheirLibraries(t *testing.T) {
	packages := webPackages()
	packages["job"] = debtest.Package("job", "libc6", debtest.XZ,
		debtest.Reg("./usr/bin/job", string(elftest.Make(elftest.Spec{Type: elf.ET_EXEC, Interp: ldso, Needed: []string{"libjob.so.1", "libc.so.6"}}))),
		debtest.Reg("./usr/bin/check", string(elftest.Make(elftest.Spec{Type: elf.ET_EXEC}))),
		debtest.Reg("./usr/lib/x86_64-linux-gnu/libjob.so.1", string(elftest.Make(elftest.Spec{}))))
	packages["shell"] = debtest.Package("shell", "", debtest.XZ, debtest.Reg("./usr/bin/shell", string(elftest.Make(elftest.Spec{Type: elf.ET_EXEC}))))
	debtest.FakeApt(t, packages)
	o := &Options{Host: glibcHost(t), Cache: t.TempDir()}
	doc := `name: two
packages: [web, job, shell]
programs:
  - {name: job, pipeline: [{program: /usr/bin/job}, {program: /srv/script}], health: {command: [/usr/bin/check]}}
  - {name: web, program: /usr/sbin/web, essential: true, workdir: /srv}
files:
  - {path: /srv/script, from: script, mode: 0755}
`
	img, err := FromManifest(context.Background(), parse(t, doc, fstest.MapFS{"script": {Data: []byte("#!/usr/bin/shell\n")}}), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/usr/bin/job", "/usr/bin/check", "/usr/bin/shell", "/usr/sbin/web", "/usr/lib/x86_64-linux-gnu/libjob.so.1", "/usr/lib/x86_64-linux-gnu/libweb.so.1"} {
		if _, err := img.Root.Lstat(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if c := img.Config; len(c.Programs) != 2 || c.Program != "" || c.Programs[1].WorkDir != "/srv" {
		t.Errorf("configuration %+v", c)
	}
	_, err = FromManifest(context.Background(), parse(t, strings.Replace(doc, "workdir: /srv", "workdir: /nowhere", 1), fstest.MapFS{"script": {Data: []byte("#!/usr/bin/shell\n")}}), o)
	if err == nil || !strings.Contains(err.Error(), "/nowhere, which is no folder") {
		t.Errorf("a program in a folder that is not there: %v", err)
	}
}

// A package's files may be listed in /lib, a manifest's path may be in either, and what a
// path adds nothing for is a mistake.
func TestAPackagesPathIsThatOfAMergedUsr(t *testing.T) {
	for where, listed := range map[string]string{"in /lib": "/lib/terminfo/x", "in /usr/lib": "/usr/lib/terminfo/x"} {
		host := glibcHost(t)
		host.Add("/usr/bin/tool", tree.File(0o755, elftest.Make(elftest.Spec{})))
		host.Add("/usr/lib/terminfo/x", tree.File(0o644, []byte("x")))
		host.Add("/usr/lib/terminfo/z", tree.File(0o644, []byte("x")))
		installPackage(t, host, "terms", listed, strings.TrimSuffix(listed, "x")+"z")
		bare := tree.New()
		bare.Add("/usr/bin/tool", tree.File(0o755, elftest.Make(elftest.Spec{})))
		for from, h := range map[string]*tree.Tree{"host": host, "packages": bare} {
			debtest.FakeApt(t, map[string][]byte{"terms": debtest.Package("terms", "", debtest.XZ,
				debtest.Reg("."+listed, "x"), debtest.Reg("."+strings.TrimSuffix(listed, "x")+"z", "z"))})
			bake := func(path string) (*Image, error) {
				text := "name: tool\nprogram: /usr/bin/tool\nfiles: [{package: terms, path: " + path + ", exclude: [z]}]\n"
				return FromManifest(context.Background(), parse(t, text, nil), &Options{Host: h, Cache: t.TempDir()})
			}
			for _, path := range []string{"/lib/terminfo", "/usr/lib/terminfo/"} {
				img, err := bake(path)
				if err != nil {
					t.Errorf("%s, listed %s, from the %s: %v", path, where, from, err)
					continue
				}
				if _, _, _, err := tree.Resolve(img.Root, "/lib/terminfo/x"); err != nil {
					t.Errorf("%s, listed %s, from the %s: %v", path, where, from, err)
				}
				if _, _, _, err := tree.Resolve(img.Root, "/lib/terminfo/z"); err == nil {
					t.Errorf("%s, listed %s, from the %s: what is excluded is there", path, where, from)
				}
			}
			if _, err := bake("/lib/termnfo"); err == nil || !strings.Contains(err.Error(), "the package terms has nothing to add at /lib/termnfo") {
				t.Errorf("a mistyped path, from the %s: %v", from, err)
			}
		}
	}
}

func TestWhatIsExcludedIsNamedBelowThePathThatIsGiven(t *testing.T) {
	h := glibcHost(t)
	h.Add("/usr/bin/tool", tree.File(0o755, elftest.Make(elftest.Spec{})))
	h.Add("/usr/lib/tool/locale/de", tree.File(0o644, nil))
	h.Add("/usr/lib/tool/locale/en", tree.File(0o644, nil))
	h.Add("/srv/tool", tree.Symlink("/lib/tool"))
	for _, path := range []string{"/usr/lib/tool", "/lib/tool/", "/srv/tool"} {
		text := "name: tool\nprogram: /usr/bin/tool\nfiles: [{path: " + path + ", exclude: [locale/d*]}]\n"
		img, err := FromManifest(context.Background(), parse(t, text, nil), &Options{Host: h, Cache: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.Root.Lstat("/usr/lib/tool/locale/en"); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := img.Root.Lstat("/usr/lib/tool/locale/de"); err == nil {
			t.Errorf("%s: what is excluded is there", path)
		}
	}
}

func TestFilesOfAManifestReplaceThoseThatEveryRootHas(t *testing.T) {
	h := glibcHost(t)
	h.Add("/usr/bin/tool", tree.File(0o755, elftest.Make(elftest.Spec{})))
	for _, n := range []string{"/etc/passwd", "/etc/nsswitch.conf"} {
		h.Add(n, tree.File(0o640, []byte("the host's")))
	}
	installPackage(t, h, "names", "/etc/nsswitch.conf")
	text := "name: tool\nprogram: /usr/bin/tool\nfiles: [{path: /etc/passwd}, {package: names}]\n"
	img, err := FromManifest(context.Background(), parse(t, text, nil), &Options{Host: h, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"/etc/passwd", "/etc/nsswitch.conf"} {
		node, err := img.Root.Lstat(n)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := node.ReadAll(); string(b) != "the host's" || node.Mode != 0o640 {
			t.Errorf("%s is %v %q", n, node.Mode, b)
		}
	}
}

// What a manifest brings itself need not be on the machine, however it brings it.
func TestAProgramMayBeTheManifestsOwn(t *testing.T) {
	static := elftest.Make(elftest.Spec{Type: elf.ET_EXEC})
	h := glibcHost(t)
	h.Add("/usr/bin/sh", tree.File(0o755, static))
	h.Add("/usr/bin/tool", tree.File(0o755, static))
	h.Add("/srv/app/data", tree.File(0o644, nil))
	files := fstest.MapFS{"app/run": {Data: static, Mode: 0o755}, "app/plain": {Data: static, Mode: 0o644},
		"app/cut": {Data: static[:80], Mode: 0o755}, "app/arm": {Data: elftest.Make(elftest.Spec{Type: elf.ET_EXEC, Machine: elf.EM_AARCH64}), Mode: 0o755}}
	const from = "{path: /srv/app, from: app}"
	for _, c := range []struct{ program, files, want string }{
		{"/srv/app/run", from, ""},
		{"/srv/app/run", from + ", {path: /srv/app/data}", ""},
		{"/srv/start.sh", `{path: /srv/start.sh, text: "#!/bin/sh\n", mode: 0755}`, ""},
		{"/srv/tool", "{path: /srv/tool, link: /usr/bin/tool}", ""},
		{"/srv/now/run", "{path: /srv/now, link: app}, " + from, ""},
		{"/srv/tool", "{path: /srv/tool, link: /usr/bin/none}", "/srv/tool is not on this machine"},
		{"/srv/start.sh", `{path: /srv/start.sh, text: "#!/bin/sh\n"}`, "/srv/start.sh is a program and may not be executed"},
		{"/srv/app/plain", from, "/srv/app/plain is a program and may not be executed"},
		{"/srv/app/plain", from + ", {path: /srv/app/plain, from: app/plain, mode: 0700}", ""},
		{"/srv/app/cut", from, "/srv/app/cut is truncated"},
		{"/srv/app/arm", from, "/srv/app/arm is a program for 64-bit Arm"},
		{"/srv/app", from, "/srv/app is a folder"},
	} {
		for where, programs := range map[string]string{
			"alone":        "program: PROG\n",
			"the second":   "programs: [{name: a, program: /usr/bin/tool}, {name: b, program: PROG}]\n",
			"health check": "programs: [{name: a, program: /usr/bin/tool, health: {command: [PROG]}}]\n",
		} {
			text := "name: own\n" + strings.Replace(programs, "PROG", c.program, 1) + "files: [" + c.files + "]\n"
			img, err := FromManifest(context.Background(), parse(t, text, files), &Options{Host: h, Cache: t.TempDir()})
			switch {
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s (%s), %s: %v", c.program, where, c.files, err)
				}
			case err != nil:
				t.Errorf("%s (%s), %s: %v", c.program, where, c.files, err)
			default:
				if _, _, _, err := tree.Resolve(img.Root, c.program); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// installPackage makes dpkg of a host list a package's files and say that it is installed.
func installPackage(t *testing.T, h *tree.Tree, name string, files ...string) {
	t.Helper()
	h.Add("/var/lib/dpkg/info/"+name+".list", tree.File(0o644, []byte("/.\n/usr\n"+strings.Join(files, "\n")+"\n")))
	dpkgStatus(t, h, strings.TrimSuffix(name, ":amd64"), "install ok installed")
}

func dpkgStatus(t *testing.T, h *tree.Tree, name, status string) {
	t.Helper()
	old, err := hostText(h, "/var/lib/dpkg/status")
	if err != nil {
		old = "Package: first\nStatus: install ok installed\nArchitecture: amd64\nDescription: one\n Package: not this\n"
	}
	h.Add("/var/lib/dpkg/status", tree.File(0o644, []byte(old+"\nPackage: "+name+"\nStatus: "+status+"\nArchitecture: amd64\n")))
}

// dpkg keeps a list of a removed package's configuration.
func TestARemovedPackageIsNotInstalled(t *testing.T) {
	for status, want := range map[string]bool{"install ok installed": true, "hold ok installed": true, "deinstall ok config-files": false,
		"install ok half-installed": false, "install reinstreq installed": false, "": false} {
		h := tree.New()
		h.Add("/var/lib/dpkg/info/web.list", tree.File(0o644, []byte("/.\n/etc\n/etc/web.conf\n")))
		if status != "" {
			dpkgStatus(t, h, "web", status)
		}
		if list, ok := installed(h, "web"); ok != want || want && len(list) != 2 {
			t.Errorf("%q: %v %v", status, list, ok)
		}
	}
}
