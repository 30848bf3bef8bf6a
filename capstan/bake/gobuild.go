package bake

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"kiln/capstan/manifest"
	"kiln/capstan/tree"
)

// buildGo builds a manifest's Go program, static and for linux/amd64, the way any Go
// program is built (nothing in it knows of Kiln).
func buildGo(ctx context.Context, o *Options, m *manifest.Manifest) (*tree.Node, error) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("%s is built from source and there is no Go toolchain here: install Go and put it into PATH", m.Name)
	}
	dir, err := os.MkdirTemp("", "kiln-go-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	src := filepath.Join(dir, "src")
	if err := copySource(src, m.Dir, m.Build.Go); err != nil {
		return nil, fmt.Errorf("the source of %s cannot be copied: %w", m.Name, err)
	}
	mod := filepath.Join(src, "go.mod")
	if _, err := os.Stat(mod); err != nil {
		if err := os.WriteFile(mod, []byte("module "+m.Name+"\n\ngo 1.21\n"), 0o644); err != nil {
			return nil, err
		}
	}
	o.log("building %s", m.Name)
	out := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, goTool, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, ".")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s does not build: %s", m.Name, strings.Join(strings.Fields(text.String()), " "))
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return tree.File(0o755, b), nil
}
