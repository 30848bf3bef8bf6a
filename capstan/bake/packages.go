package bake

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kiln/capstan/manifest"
	"kiln/capstan/tree"
)

// allPackages are a manifest's packages with those that its files name.
func allPackages(m *manifest.Manifest) []string {
	all := slices.Clone(m.Packages)
	for _, f := range m.Files {
		if f.Package != "" && !slices.Contains(all, f.Package) {
			all = append(all, f.Package)
		}
	}
	return all
}

// packageFiles adds what a package has below a path: from the host if the package is
// installed there, else from the package.
func (b *builder) packageFiles(f manifest.File) error {
	top := path.Clean("/" + f.Path)
	keep := func(name string) bool {
		if top != "/" && name != top && !strings.HasPrefix(name, top+"/") {
			return false
		}
		return !skipped(name) && !excludedBelow(f.Exclude, strings.TrimPrefix(strings.TrimPrefix(name, top), "/"))
	}
	if list, ok := installed(b.opts.host(), f.Package); ok {
		for _, name := range list {
			if !keep(name) {
				continue
			}
			if err := b.copyInstalled(name); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := b.fetch(); err != nil {
		return fmt.Errorf("the package %s is not installed on this machine, and: %w", f.Package, err)
	}
	return b.out.CopyTree(b.set.Package(f.Package).Files, "/", func(name string, n *tree.Node) bool {
		// A folder on the way to the path is walked, and is in the image anyway.
		return keep(name) || n.Mode.IsDir() && strings.HasPrefix(top, name+"/")
	})
}

// copyInstalled copies one file of an installed package. Some are not there: an
// administrator may have taken them away, or told dpkg to leave them out.
func (b *builder) copyInstalled(name string) error {
	host := b.opts.host()
	err := b.out.CopyPath(host, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n, err := host.Lstat(name)
	if err != nil {
		return nil
	}
	return b.out.Add(name, n) // a link that leads nowhere
}

// installed lists the files of a package that dpkg has installed in a root, see
// dpkg(1), "FILES".
func installed(host tree.Source, name string) ([]string, bool) {
	for _, base := range []string{name + ".list", name + ":amd64.list"} {
		_, n, _, err := tree.Resolve(host, "/var/lib/dpkg/info/"+base)
		if err != nil {
			continue
		}
		data, err := n.ReadAll()
		if err != nil {
			continue
		}
		var list []string
		for _, l := range strings.Split(string(data), "\n") {
			if path.IsAbs(l) && l != "/." {
				list = append(list, l)
			}
		}
		return list, true
	}
	return nil, false
}

// excludedBelow says whether a path or a folder above it is excluded.
func excludedBelow(patterns []string, rel string) bool {
	for i, c := range rel {
		if c == '/' && excluded(patterns, rel[:i]) {
			return true
		}
	}
	return rel != "" && excluded(patterns, rel)
}
