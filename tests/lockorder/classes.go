package lockorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Classes gives the name of the lock, PACKAGE.TYPE.FIELD, that is taken at a place, FILE:LINE.
type Classes map[string]string

// ReadClasses reads the packages of patterns as go list has them, in root.
func ReadClasses(root string, patterns ...string) (Classes, error) {
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,DepOnly,Standard"}, patterns...)...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	type pkg struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
		DepOnly, Standard       bool
	}
	exports := map[string]string{}
	var own []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly && !p.Standard {
			own = append(own, p)
		}
	}
	fset := token.NewFileSet()
	from := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	c := Classes{}
	for _, p := range own {
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
		info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Selections: map[*ast.SelectorExpr]*types.Selection{}, Uses: map[*ast.Ident]types.Object{}}
		conf := types.Config{Importer: from}
		if _, err := conf.Check(p.ImportPath, fset, files, info); err != nil {
			return nil, fmt.Errorf("%s: %w", p.ImportPath, err)
		}
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					c.add(fset, p.ImportPath, info, call)
				}
				return true
			})
		}
	}
	return c, nil
}

func (c Classes) add(fset *token.FileSet, pkg string, info *types.Info, call *ast.CallExpr) {
	m, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !strings.HasSuffix(m.Sel.Name, "ock") || strings.HasSuffix(m.Sel.Name, "nlock") {
		return
	}
	var name string
	switch x := m.X.(type) {
	case *ast.SelectorExpr:
		if s := info.Selections[x]; s != nil {
			name = strings.TrimLeft(s.Recv().String(), "*") + "." + x.Sel.Name
			break
		}
		name = pkg + "." + x.Sel.Name
	default:
		t := info.TypeOf(m.X)
		if t == nil {
			return // a function of a package
		}
		if name = strings.TrimLeft(t.String(), "*"); strings.HasPrefix(name, "sync.") {
			name = pkg + "." + types.ExprString(m.X)
		}
	}
	// A call over several lines is at its name for the compiler.
	for _, p := range []token.Pos{call.Pos(), m.Sel.Pos()} {
		at := fset.Position(p)
		c[fmt.Sprintf("%s:%d", at.Filename, at.Line)] = name
	}
}

// at is the class of a place, the innermost of whose lines that is known decides; one of which
// none is known is a class of its own.
func (c Classes) at(place string) string {
	for l := range strings.SplitSeq(place, ",") {
		if name := c[l]; name != "" {
			return name
		}
	}
	return place
}
