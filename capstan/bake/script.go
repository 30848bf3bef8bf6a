package bake

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"kiln/capstan/manifest"
	"kiln/capstan/tree"
)

// maxScripts is how many scripts may run each other, as Linux counts them (execve(2)).
const maxScripts = 5

// interpreter follows a program that is a script to the program that runs it, which it
// puts into the root. What is no script is its own.
func (b *builder) interpreter(x manifest.Executable) (string, error) {
	program := x.Path
	for range maxScripts {
		_, n, _, err := tree.Resolve(tree.Union{b.out, b.source()}, program)
		if err != nil {
			return program, nil // the closure says what is wrong
		}
		line, err := firstLine(n)
		if err != nil {
			return "", err
		}
		rest, ok := strings.CutPrefix(line, "#!")
		if !ok {
			return program, nil
		}
		words := strings.Fields(rest)
		if len(words) == 0 || !path.IsAbs(words[0]) {
			return "", fmt.Errorf("%s is a script, and %q names no interpreter by an absolute path", program, line)
		}
		if err := b.copyOrFetch(words[0]); err != nil {
			return "", fmt.Errorf("%s is a script for %s, which cannot be had: %w", program, words[0], err)
		}
		by := words[0]
		if name := envProgram(words); name != "" {
			if by, err = b.byName(name, cmp.Or(x.SearchPath, manifest.DefaultPath)); err != nil {
				return "", fmt.Errorf("%s is a script for %s, %w", program, name, err)
			}
		}
		program = by
	}
	return "", fmt.Errorf("%s is the interpreter of a script and a script itself, too deep for Linux to run", program)
}

// envProgram is the name or path of the program that a script's first line has env(1) start,
// "" where it is not env's or that cannot be told.
func envProgram(words []string) string {
	if path.Base(words[0]) != "env" {
		return ""
	}
	for _, w := range words[1:] {
		switch {
		case w == "-u", w == "-C", strings.HasPrefix(w, "PATH="): // the next word is no program; another PATH
			return ""
		case w[0] == '-' || strings.Contains(w, "="):
			continue
		case strings.Contains(w, "/") && !path.IsAbs(w): // below the folder that it starts in
			return ""
		}
		return w
	}
	return ""
}

// byName adds a program that is found in PATH: what the root has already goes first, as it
// will in the machine.
func (b *builder) byName(name, search string) (string, error) {
	prog := name
	if !path.IsAbs(name) {
		prog = cmp.Or(inPath(b.out, name, search), inPath(b.source(), name, search))
		if prog == "" {
			if _, err := b.fetch(); err != nil {
				return "", fmt.Errorf("which cannot be had: %w", err)
			}
			prog = inPath(b.source(), name, search)
		}
		if prog == "" {
			return "", fmt.Errorf("which is in no folder of its PATH (%s): install the package that has it, or add it with a manifest", search)
		}
	}
	if err := b.copyOrFetch(prog); err != nil {
		return "", fmt.Errorf("which cannot be had: %w", err)
	}
	return prog, nil
}

// copyOrFetch adds a file that the root may have already, from wherever there is one.
func (b *builder) copyOrFetch(name string) error {
	err := b.out.CopyPath(tree.Union{b.out, b.source()}, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if ok, ferr := b.fetch(); ferr != nil || !ok {
		return errors.Join(err, ferr)
	}
	return b.out.CopyPath(b.source(), name)
}

// firstLine is what Linux looks at of a script: up to 255 bytes.
func firstLine(n *tree.Node) (string, error) {
	if !n.Mode.IsRegular() {
		return "", nil
	}
	r, err := n.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	head, err := io.ReadAll(io.LimitReader(r, 255))
	line, _, _ := strings.Cut(string(head), "\n")
	return line, err
}
