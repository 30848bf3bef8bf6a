// Package layering checks the shape of the tree: imports point down, privileged
// code stays in the base, the packager and the kernel do not know each other.
package layering

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath  string
	Dir         string
	Imports     []string
	Deps        []string
	GoFiles     []string
	SFiles      []string
	TestImports []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,Deps,GoFiles,SFiles", "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 20 {
		t.Fatalf("only %d packages: the list is not the tree", len(pkgs))
	}
	return pkgs
}

func root(t *testing.T) string {
	t.Helper()
	p, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// layers, lowest first: a package may import its own layer and those below. The
// longest matching prefix decides.
var layers = []struct {
	prefix string
	level  int
}{
	{"kiln/kernel/image", 0}, {"kiln/kernel/boot", 0},
	{"kiln/kernel/hal", 1},
	{"kiln/kernel/metal", 2}, {"kiln/kernel/hosted", 2},
	{"kiln/kernel/wait", 2}, {"kiln/kernel/timer", 2}, {"kiln/kernel/klog", 2},
	{"kiln/kernel/mm", 3},
	{"kiln/fs/vfs", 4},
	{"kiln/fs", 5}, {"kiln/net", 5}, {"kiln/drivers", 5},
	{"kiln/kernel/task", 6}, {"kiln/kernel/ipc", 7},
	{"kiln/fs/procfs", 7}, {"kiln/fs/sysfs", 7}, {"kiln/fs/anon", 7}, {"kiln/fs/mqueue", 7},
	{"kiln/loader", 6},
	{"kiln/syscalls", 8},
	{"kiln/kernel/supervisor", 8},
	{"kiln/kernel/system", 9},
	{"kiln/cmd/kernel", 10},
}

func level(path string) (int, bool) {
	best, lv := 0, -1
	for _, l := range layers {
		if (path == l.prefix || strings.HasPrefix(path, l.prefix+"/")) && len(l.prefix) > best {
			best, lv = len(l.prefix), l.level
		}
	}
	return lv, lv >= 0
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range list(t) {
		from, ok := level(p.ImportPath)
		if !ok {
			continue
		}
		for _, imp := range p.Imports {
			if to, ok := level(imp); ok && to > from {
				t.Errorf("%s (layer %d) imports %s (layer %d)", p.ImportPath, from, imp, to)
			}
		}
	}
}

func TestKernelAndPackagerDoNotKnowEachOther(t *testing.T) {
	for _, p := range list(t) {
		for _, d := range p.Deps {
			switch {
			case (strings.HasPrefix(p.ImportPath, "kiln/capstan") || p.ImportPath == "kiln/cmd/pack") &&
				strings.HasPrefix(d, "kiln/kernel/") && d != "kiln/kernel/image":
				t.Errorf("the packager (%s) depends on %s", p.ImportPath, d)
			case (p.ImportPath == "kiln/cmd/kernel" || p.ImportPath == "kiln/cmd/process") && (strings.HasPrefix(d, "kiln/capstan") || d == "os/exec"):
				t.Errorf("the kernel depends on %s", d)
			}
		}
	}
}

// privileged may use unsafe, linkname and assembly (STYLE 8): the base, what is no kernel, and
// the one package that reaches into a library.
func privileged(path string) bool {
	for _, ok := range []string{"kiln/net/tcpin", "kiln/kernel/metal", "kiln/kernel/hosted", "kiln/kernel/hal", "kiln/kernel/boot", "kiln/tests", "kiln/capstan"} {
		if path == ok || strings.HasPrefix(path, ok+"/") {
			return true
		}
	}
	return false
}

func TestPrivilegedCodeIsInTheBase(t *testing.T) {
	for _, p := range list(t) {
		if privileged(p.ImportPath) {
			continue
		}
		for _, imp := range p.Imports {
			if imp == "unsafe" || imp == "C" {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
		if len(p.SFiles) > 0 {
			t.Errorf("%s has assembly: %v", p.ImportPath, p.SFiles)
		}
	}
}

// netTypes are what the kernel may use of Go's package net: addresses, which the DHCP
// library's interface is made of. Nothing here opens a socket.
var netTypes = map[string]bool{"IP": true, "IPMask": true, "IPNet": true, "HardwareAddr": true, "IPv4": true, "IPv4zero": true, "IPv4bcast": true}

// onlyAddresses checks that a package's files use nothing else of package net.
func onlyAddresses(t *testing.T, p *pkg) {
	t.Helper()
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		local := ""
		for _, i := range f.Imports {
			if i.Path.Value == `"net"` {
				if local = "net"; i.Name != nil {
					local = i.Name.Name
				}
			}
		}
		if local == "" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && x.Obj == nil && !netTypes[sel.Sel.Name] {
					t.Errorf("%s/%s uses net.%s", p.ImportPath, name, sel.Sel.Name)
				}
			}
			return true
		})
	}
}

// TestKernelStaysOffTheHost keeps Go's own files, sockets and processes out of what
// runs above hal: on metal they would reach the base's few runtime calls.
func TestKernelStaysOffTheHost(t *testing.T) {
	for _, p := range list(t) {
		if lv, ok := level(p.ImportPath); !ok || lv < 2 || privileged(p.ImportPath) {
			continue
		}
		for _, imp := range p.Imports {
			switch imp {
			case "net":
				onlyAddresses(t, &p)
			case "os", "os/exec", "net/http", "os/signal", "syscall":
				if !(p.ImportPath == "kiln/cmd/kernel" && imp == "os") {
					t.Errorf("%s imports %s", p.ImportPath, imp)
				}
			}
		}
	}
}
