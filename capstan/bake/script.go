package bake

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"kiln/capstan/tree"
)

// maxScripts is how many scripts may run each other, as Linux counts them (execve(2)).
const maxScripts = 5

// interpreter follows a program that is a script to the program that runs it, which it
// puts into the root. What is no script is its own.
func (b *builder) interpreter(program string) (string, error) {
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
		program = words[0]
	}
	return "", fmt.Errorf("%s is the interpreter of a script and a script itself, too deep for Linux to run", program)
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
