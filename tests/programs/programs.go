// Package programs builds the small programs that the tests run on Kiln and on
// Linux: one source each, one property each, linked in every way that Linux programs
// are linked.
//
// A program prints what it sees by check.h, in lines that do not differ from run to
// run, so that the same output is expected wherever it runs.
package programs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"kiln/tests/vmtest"
)

// How a program is linked.
type How string

// Ways of linking. The first two run without any file but their own.
const (
	Static    How = "static"     // glibc, fixed address
	StaticPIE How = "static-pie" // glibc
	PIE       How = "pie"        // dynamic
	NonPIE    How = "no-pie"     // dynamic, fixed address
	Musl      How = "musl"       // static, fixed address
	Go        How = "go"         // stock toolchain, CGO_ENABLED=0
)

var flags = map[How][]string{
	Static:    {"-static", "-no-pie"},
	StaticPIE: {"-static-pie", "-fPIE"},
	PIE:       {"-pie", "-fPIE"},
	NonPIE:    {"-no-pie"},
	Musl:      {"-static", "-no-pie"},
}

// Program is a source and a way to build it.
type Program struct {
	Name    string
	Source  string // a .c file or a folder of Go, from tests/
	How     How
	Defines []string
}

// all is the corpus. What tests a property of the kernel is static; hello is there
// for each way of linking.
var all = []Program{
	{"hello-static", "programs/c/hello.c", Static, []string{"THREADS"}},
	{"hello-static-pie", "programs/c/hello.c", StaticPIE, []string{"THREADS"}},
	{"hello-pie", "programs/c/hello.c", PIE, []string{"THREADS"}},
	{"hello-no-pie", "programs/c/hello.c", NonPIE, []string{"THREADS"}},
	{"hello-musl", "programs/c/hello.c", Musl, []string{"THREADS"}},
	{"hello-go", "programs/hello", Go, nil},
	{"httpd", "programs/httpd", Go, nil},
	{"dlopen", "programs/c/dlopen.c", PIE, nil},
	{"end", "programs/c/end.c", Static, nil},
	{"end-musl", "programs/c/end.c", Musl, nil},
	{"spin", "programs/c/spin.c", Static, nil},
	{"eater", "programs/c/eater.c", Static, nil},
	{"nosys", "programs/c/nosys.c", Static, nil},
	{"clock", "programs/c/clock.c", Static, nil},
	{"signals", "programs/c/signals.c", Static, nil},
	{"threads", "programs/c/threads.c", Static, nil},
	{"events", "programs/c/events.c", Static, nil},
	{"memory", "programs/c/memory.c", Static, nil},
	{"rflags", "programs/c/rflags.c", Static, nil},
	{"iret", "programs/c/iret.c", Static, nil},
	{"compat", "programs/c/compat.c", Static, nil},
	{"sockets", "programs/c/sockets.c", Static, nil},
	{"files", "programs/c/files.c", Static, nil},
	{"procdev", "programs/c/procdev.c", Static, nil},
	{"args", "programs/c/args.c", Static, nil},
	{"sigframe", "programs/c/sigframe.c", Static, nil},
	{"procs", "programs/c/procs.c", Static, nil},
	{"stackdepth", "programs/c/stackdepth.c", Static, nil},
	{"execs", "programs/c/execs.c", Static, nil},
	{"unit", "programs/c/unit.c", Static, nil},
	{"leaks", "programs/c/leaks.c", Static, nil},
	{"soak", "programs/c/soak.c", Static, nil},
	{"streams", "programs/c/streams.c", Static, nil},
	{"lastwords", "programs/c/lastwords.c", Static, nil},
	{"pty-musl", "conformance/c/pty.c", Musl, nil},
}

// Find is the program of a name.
func Find(name string) (Program, bool) {
	for _, p := range append(all, IPC...) {
		if p.Name == name {
			return p, true
		}
	}
	// What conformance/c has needs no line above, unless it is linked in another way.
	src := "conformance/c/" + name + ".c"
	if root, err := vmtest.Root(); err == nil {
		if _, err := os.Stat(filepath.Join(root, "tests", src)); err == nil {
			return Program{name, src, Static, nil}, true
		}
	}
	return Program{}, false
}

// reLibraries is a line of a C source that names what it is linked with.
var reLibraries = regexp.MustCompile(`(?m)^/\* link: (.*) \*/$`)

var mu sync.Mutex

// Build compiles a program, unless it is newer than the sources, and returns its path.
func Build(name string) (string, error) {
	p, ok := Find(name)
	if !ok {
		return "", fmt.Errorf("no test program is called %s", name)
	}
	mu.Lock()
	defer mu.Unlock()
	root, err := vmtest.Root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(root, "build", "programs", p.Name)
	src := filepath.Join(root, "tests", p.Source)
	sources, _ := filepath.Glob(filepath.Join(root, "tests/conformance/c/*.h"))
	headers, _ := filepath.Glob(filepath.Join(root, "tests/programs/c/*.h"))
	sources = append(append(sources, headers...), src, filepath.Join(root, "tests/programs/programs.go"))
	if fresh(out, sources...) {
		return out, nil
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	tmp := fmt.Sprintf("%s.new.%d", out, os.Getpid()) // another process may build it too
	cmd := p.command(src, tmp)
	cmd.Dir = root
	var msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &msg, &msg
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, &msg)
	}
	return out, os.Rename(tmp, out)
}

func (p Program) command(src, out string) *exec.Cmd {
	if p.How == Go {
		cmd := exec.Command("go", "build", "-trimpath", "-o", out, "./tests/"+p.Source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return cmd
	}
	cc := "gcc"
	if p.How == Musl {
		cc = "musl-gcc"
	}
	args := append([]string{"-O1", "-w", "-pthread", "-o", out}, flags[p.How]...)
	for _, d := range p.Defines {
		args = append(args, "-D"+d)
	}
	args = append(args, src)
	if b, err := os.ReadFile(src); err == nil {
		if m := reLibraries.FindSubmatch(b); m != nil {
			args = append(args, strings.Fields(string(m[1]))...)
		}
	}
	return exec.Command(cc, args...)
}

// fresh tells whether out is newer than all sources; a folder is built by go, which
// has a cache of its own.
func fresh(out string, sources ...string) bool {
	o, err := os.Stat(out)
	if err != nil {
		return false
	}
	for _, s := range sources {
		if i, err := os.Stat(s); err != nil || i.IsDir() || i.ModTime().After(o.ModTime()) {
			return false
		}
	}
	return true
}
