// Command gensyscalls writes the list of system calls that `pack syscalls` prints:
// every call that Linux has on x86-64, with what the kernel's table says of it. The
// packager embeds the list, since it may not import the kernel.
//
//	go run ./cmd/gensyscalls            writes capstan/cli/syscalls.json
//	go run ./cmd/gensyscalls -o -       prints it
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"kiln/syscalls"
	"kiln/tests/conformance"
)

// row is one line of the list; capstan/cli reads it.
type row struct {
	Nr      int    `json:"nr"`
	Name    string `json:"name"`
	Support string `json:"support"`
	// Level is what the conformance cases show of it: "claimed" where they do not show
	// what Support says.
	Level string `json:"level"`
	Note  string `json:"note,omitempty"`
}

var support = map[syscalls.Support]string{
	syscalls.None: "none", syscalls.Stub: "stub", syscalls.Partial: "partial", syscalls.Full: "full",
}

func main() {
	out := flag.String("o", "capstan/cli/syscalls.json", "file to write, - for standard output")
	flag.Parse()
	b, err := list()
	if err == nil {
		if *out == "-" {
			_, err = os.Stdout.Write(b)
		} else {
			err = os.WriteFile(*out, b, 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gensyscalls:", err)
		os.Exit(1)
	}
}

// list is the file's content.
func list() ([]byte, error) {
	names, err := linuxCalls()
	if err != nil {
		return nil, err
	}
	rows := map[int]row{}
	for nr, name := range names {
		rows[nr] = row{nr, name, "none", "none", ""}
	}
	for _, e := range syscalls.Table() {
		if old, ok := names[e.Nr]; ok && old != e.Name {
			return nil, fmt.Errorf("the kernel's table calls number %d %s, and Linux %s", e.Nr, e.Name, old)
		}
		rows[e.Nr] = row{e.Nr, e.Name, support[e.Support], conformance.Level(e), e.Note}
	}
	all := make([]row, 0, len(rows))
	for _, r := range rows {
		all = append(all, r)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Nr < all[j].Nr })
	b := []byte("[\n")
	for i, r := range all { // one a line, so that changes are easy to read
		line, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		b = append(append(b, "  "...), line...)
		if i < len(all)-1 {
			b = append(b, ',')
		}
		b = append(b, '\n')
	}
	return append(b, "]\n"...), nil
}

// linuxCalls reads the names and numbers from the constants of golang.org/x/sys/unix.
func linuxCalls() (map[int]string, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		return nil, fmt.Errorf("finding golang.org/x/sys: %w", err)
	}
	file := filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_amd64.go")
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Names) != 1 || len(v.Values) != 1 {
			return true
		}
		name, ok := strings.CutPrefix(v.Names[0].Name, "SYS_")
		lit, isLit := v.Values[0].(*ast.BasicLit)
		if !ok || !isLit {
			return true
		}
		if nr, err := strconv.Atoi(lit.Value); err == nil {
			names[nr] = strings.ToLower(name)
		}
		return true
	})
	if len(names) < 300 {
		return nil, fmt.Errorf("only %d system calls in %s", len(names), file)
	}
	return names, nil
}
