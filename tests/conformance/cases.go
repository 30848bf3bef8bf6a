// Package conformance compares Kiln with Linux: the same programs with the same
// arguments, output and status alike. Debian's 6.1 kernel in QEMU is the oracle
// (record.sh); what it said is in testdata, one file a case.
package conformance

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"kiln/capstan/elfinfo"
	"kiln/capstan/tree"
	"kiln/tests/programs"
)

// Case is one run of a program.
type Case struct {
	Name    string
	Program string // in tests/programs
	Args    []string
	Env     []string
	// Slow cases are left out where time is short.
	Slow bool
	// Calls are the system calls that the case is about: it counts for one only if it
	// fails where that call is ENOSYS.
	Calls []string
}

// Env is every case's environment before its own.
var Env = []string{"PATH=/bin", "HOME=/root", "TERM=linux"}

// Path is where a root holds a program.
func Path(program string) string { return "/bin/" + program }

var ends = []string{
	"exit", "exit_group", "null", "read", "write", "jump", "kernel", "noncanonical", "text", "noexec", "stack", "hlt", "cli", "out", "ud2", "int3",
	"div", "abort", "sigterm", "sigkill", "bus", "badstack",
}

// Cases are all of them.
func Cases() []Case {
	var cs []Case
	for _, p := range []string{"hello-static", "hello-static-pie", "hello-musl", "hello-pie", "hello-no-pie", "hello-go"} {
		cs = append(cs, Case{Name: p, Program: p, Args: []string{"from", "a test"}})
	}
	for _, h := range ends {
		cs = append(cs, Case{Name: "end-" + h, Program: "end", Args: []string{h}})
	}
	cs = append(cs,
		Case{Name: "exit-42", Program: "end", Args: []string{"exit", "42"}},
		Case{Name: "exit-256", Program: "end-musl", Args: []string{"exit", "256"}},
		Case{Name: "spin", Program: "spin", Args: []string{"1"}},
		Case{Name: "args", Program: "args", Args: []string{"one", "", "two words"}},
		Case{Name: "args-big", Program: "args", Args: big(300, 1000), Env: big(100, 1000, "V")},
	)
	for _, p := range []string{"nosys", "clock", "signals", "sigframe", "procs", "threads", "events", "memory", "rflags", "sockets", "files", "procdev", "stackdepth", "badptr", "errno", "tty", "dlopen",
		"clone", "wait", "exec", "pidfd", "rlimits", "oom", "jobs", "setids"} {
		cs = append(cs, Case{Name: p, Program: p})
	}
	for _, p := range programs.IPC {
		cs = append(cs, Case{Name: p.Name, Program: p.Name})
	}
	for _, p := range []string{"pty", "pty-musl", "ptydisc", "ptyjobs"} {
		cs = append(cs, Case{Name: p, Program: p})
	}
	cs = append(cs, Case{Name: "httpd", Program: "httpd", Slow: true})
	return append(cs, written()...)
}

//go:embed c/*.c
var sources embed.FS

// reCase is a line that opens a case: CASE(name, call, call…).
var reCase = regexp.MustCompile(`(?m)^CASE\((\w+)((?:,\s*\w+)*)\)`)

// written are the cases that sources define with CASE (check.h), as FILE/CASE.
func written() []Case {
	var cs []Case
	files, err := sources.ReadDir("c")
	if err != nil {
		panic(err) // embedded
	}
	for _, f := range files {
		family := strings.TrimSuffix(f.Name(), ".c")
		src, err := sources.ReadFile("c/" + f.Name())
		if err != nil {
			panic(err)
		}
		for _, m := range reCase.FindAllSubmatch(src, -1) {
			c := Case{Name: family + "/" + string(m[1]), Program: family, Args: []string{string(m[1])}}
			for _, call := range strings.Split(string(m[2]), ",") {
				if call = strings.TrimSpace(call); call != "" {
					c.Calls = append(c.Calls, call)
				}
			}
			cs = append(cs, c)
		}
	}
	return cs
}

// Named are the cases whose names are listed, or of a file that is; all without a list.
func Named(names []string) []Case {
	var out []Case
	for _, c := range Cases() {
		family, _, _ := strings.Cut(c.Name, "/")
		if len(names) == 0 || slices.Contains(names, c.Name) || slices.Contains(names, family) {
			out = append(out, c)
		}
	}
	return out
}

// big is n strings of length l.
func big(n, l int, prefix ...string) []string {
	var out []string
	for i := range n {
		s := strings.Join(prefix, "")
		if s != "" {
			s += fmt.Sprint(i, "=")
		}
		out = append(out, s+strings.Repeat(string(rune('a'+i%26)), l))
	}
	return out
}

//go:embed all:testdata
var testdata embed.FS

// Golden is what Linux printed, and the status as a shell has it.
func Golden(name string) (string, error) {
	b, err := testdata.ReadFile("testdata/" + name + ".golden")
	return string(b), err
}

// Text is output and status in the form of a golden file.
func Text(out string, status int) string {
	out = strings.ReplaceAll(out, "\r\n", "\n")
	if out != "" && !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	return fmt.Sprintf("%s--- status %d\n", out, status)
}

// Root is a tree with the programs of the cases and the libraries they need.
func Root(cases []Case) (*tree.Tree, error) {
	t := tree.New()
	host := tree.HostSource{Dir: "/"}
	for _, d := range []string{"/tmp", "/dev", "/proc", "/sys", "/root", "/etc", "/run"} {
		n := tree.Dir(0o755)
		if err := t.Add(d, n); err != nil {
			return nil, err
		}
	}
	closure := elfinfo.NewClosure(host)
	done := map[string]bool{}
	for _, c := range cases {
		if done[c.Program] {
			continue
		}
		done[c.Program] = true
		file, err := programs.Build(c.Program)
		if err != nil {
			return nil, err
		}
		n, err := tree.HostFile(file)
		if err != nil {
			return nil, err
		}
		if err := t.Add(Path(c.Program), n); err != nil {
			return nil, err
		}
		if err := closure.Add(file); err != nil {
			return nil, err
		}
		if c.Program == "dlopen" {
			if err := closure.AddLibrary("libm.so.6", file); err != nil {
				return nil, err
			}
		}
	}
	for _, l := range closure.Libraries() {
		for _, p := range []string{l.Path, l.Real} {
			if err := t.CopyPath(host, p); err != nil {
				return nil, fmt.Errorf("%s: %w", path.Base(p), err)
			}
		}
	}
	return t, nil
}
