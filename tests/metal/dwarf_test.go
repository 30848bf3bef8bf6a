package metal

import (
	"debug/dwarf"
	"debug/elf"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"testing"
)

// structs reads the field offsets and the size of some types from a kernel's DWARF.
func structs(t *testing.T, file string, names ...string) (off map[string]int64, size map[string]int64) {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	off, size = map[string]int64{}, map[string]int64{}
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	for r := d.Reader(); ; {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return off, size
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if e.Tag != dwarf.TagStructType || !want[name] {
			continue
		}
		typ, err := d.Type(e.Offset)
		if err != nil {
			t.Fatal(err)
		}
		s := typ.(*dwarf.StructType)
		size[name] = s.ByteSize
		for _, f := range s.Field {
			off[name+"."+f.Name] = f.ByteOffset
		}
	}
}

// constants evaluates the integer constants of a Go file that refer to nothing outside it.
func constants(t *testing.T, file string) map[string]int64 {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Imports {
		d.Path.Value = `"unsafe"`
	}
	var keep []ast.Decl
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && (g.Tok == token.CONST || g.Tok == token.IMPORT) {
			keep = append(keep, d)
		}
	}
	f.Decls = keep
	conf := types.Config{Error: func(error) {}}
	pkg, _ := conf.Check("p", fset, []*ast.File{f}, nil)
	m := map[string]int64{}
	for _, n := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(n).(*types.Const); ok && c.Val().Kind() == constant.Int {
			m[n], _ = constant.Int64Val(c.Val())
		}
	}
	return m
}

// TestRuntimeLayout: the base makes a g and an m that the runtime's prologues and its
// dying gasp read, at offsets written down in cpu.go and entry_amd64.s, and looks at the
// scheduler's queues, at offsets in idle.go.
func TestRuntimeLayout(t *testing.T) {
	k := build(t, "hello")
	off, size := structs(t, k+".elf", "runtime.g", "runtime.stack", "runtime.m",
		"runtime.p", "runtime.timers", "runtime.schedt", "runtime.gQueue")
	for _, f := range []string{"runtime.g.stack", "runtime.stack.lo", "runtime.stack.hi", "runtime.g.stackguard0",
		"runtime.g.stackguard1", "runtime.g.m", "runtime.m.g0", "runtime.m.p",
		"runtime.p.runqhead", "runtime.p.runqtail", "runtime.p.runnext", "runtime.p.timers", "runtime.timers.minWhenHeap",
		"runtime.timers.minWhenModified", "runtime.schedt.npidle", "runtime.schedt.runq", "runtime.gQueue.size",
		"runtime.schedt.gcwaiting"} {
		if _, ok := off[f]; !ok {
			t.Fatalf("the runtime has no %s any more", f)
		}
	}
	c := constants(t, "../../kernel/metal/cpu.go")
	maps.Copy(c, constants(t, "../../kernel/metal/idle.go"))
	for _, f := range []struct {
		name string
		want int64
	}{
		{"gStackLo", off["runtime.g.stack"] + off["runtime.stack.lo"]},
		{"gStackHi", off["runtime.g.stack"] + off["runtime.stack.hi"]},
		{"gStackGuard0", off["runtime.g.stackguard0"]},
		{"gStackGuard1", off["runtime.g.stackguard1"]},
		{"gM", off["runtime.g.m"]},
		{"mG0", off["runtime.m.g0"]},
		{"mP", off["runtime.m.p"]},
		{"pRunqHead", off["runtime.p.runqhead"]},
		{"pRunqTail", off["runtime.p.runqtail"]},
		{"pRunNext", off["runtime.p.runnext"]},
		{"pMinWhenHeap", off["runtime.p.timers"] + off["runtime.timers.minWhenHeap"]},
		{"pMinWhenModified", off["runtime.p.timers"] + off["runtime.timers.minWhenModified"]},
		{"schedNPIdle", off["runtime.schedt.npidle"]},
		{"schedRunqSize", off["runtime.schedt.runq"] + off["runtime.gQueue.size"]},
		{"schedGCWaiting", off["runtime.schedt.gcwaiting"]},
	} {
		got, ok := c[f.name]
		if !ok || got != f.want {
			t.Errorf("%s is %d (%v) in the base, the runtime has it at %d", f.name, got, ok, f.want)
		}
	}
	// entry_amd64.s writes the boot g by number.
	for _, f := range []struct {
		name string
		at   int64
	}{{"gStackLo", 0}, {"gStackHi", 8}, {"gStackGuard0", 16}, {"gStackGuard1", 24}} {
		if c[f.name] != f.at {
			t.Errorf("%s is %d, start in entry_amd64.s writes it at %d", f.name, c[f.name], f.at)
		}
	}
	// They have their places in a page of the CPU, with the idle M behind.
	if n := size["runtime.g"]; n == 0 || n > c["cpuMOff"]-c["cpuGOff"] {
		t.Errorf("runtime.g has %d bytes, its place %d", n, c["cpuMOff"]-c["cpuGOff"])
	}
	if n := size["runtime.m"]; n == 0 || n > c["idleOff"] {
		t.Errorf("runtime.m has %d bytes, its place %d", n, c["idleOff"])
	}
	if bootG := int64(64 * 8); size["runtime.g"] > bootG {
		t.Errorf("runtime.g has %d bytes, bootG %d", size["runtime.g"], bootG)
	}
}
