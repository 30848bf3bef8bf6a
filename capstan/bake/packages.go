package bake

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kiln/capstan/deb"
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
// installed there, else from the package. Paths are compared as those of a merged /usr,
// which a package's and dpkg's own lists need not be.
func (b *builder) packageFiles(f manifest.File) error {
	top := deb.UsrPath(f.Path)
	keep := func(name string) bool {
		name = deb.UsrPath(name)
		if top != "/" && name != top && !strings.HasPrefix(name, top+"/") {
			return false
		}
		return !skipped(name) && !excludedBelow(f.Exclude, strings.TrimPrefix(strings.TrimPrefix(name, top), "/"))
	}
	found, err := b.packageFilesThat(keep, top, f.Package)
	if err == nil && !found {
		err = fmt.Errorf("the package %s has nothing to add at %s: look at `dpkg -L %s`", f.Package, path.Clean("/"+f.Path), f.Package)
	}
	return err
}

// packageFilesThat are those to keep; it says whether there are any.
func (b *builder) packageFilesThat(keep func(string) bool, top, pkg string) (found bool, err error) {
	if list, ok := installed(b.opts.host(), pkg); ok {
		for _, name := range list {
			if !keep(name) {
				continue
			}
			added, err := b.copyInstalled(name)
			if err != nil {
				return false, err
			}
			found = found || added
		}
		return found, nil
	}
	if _, err := b.fetch(); err != nil {
		return false, fmt.Errorf("the package %s is not installed on this machine, and: %w", pkg, err)
	}
	err = b.out.CopyTree(b.set.Package(pkg).Files, "/", func(name string, n *tree.Node) bool {
		if keep(name) {
			found = found || !n.Mode.IsDir() || !has(b.out, name)
			return true
		}
		// A folder on the way to the path is walked, and is in the image anyway.
		return n.Mode.IsDir() && strings.HasPrefix(top, name+"/")
	})
	return found, err
}

// copyInstalled copies one file of an installed package and says whether that adds to the
// root. Some are not there: an administrator may have taken them away, or told dpkg to
// leave them out.
func (b *builder) copyInstalled(name string) (added bool, err error) {
	host := b.opts.host()
	had := has(b.out, name)
	_, n, _, err := tree.Resolve(host, name)
	switch {
	case err == nil && n.Mode.IsDir():
		return !had, b.out.CopyPath(host, name)
	case err == nil:
		return true, b.out.CopyOver(host, name)
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	if n, err = host.Lstat(name); err != nil {
		return false, nil
	}
	return true, b.out.Add(name, n) // a link that leads nowhere
}

// installed lists the files of a package that dpkg has installed in a root, see
// dpkg(1), "FILES". There is a list of a package that was removed and not purged, too:
// of its configuration.
func installed(host tree.Source, name string) ([]string, bool) {
	if !isInstalled(host, name) {
		return nil, false
	}
	for _, base := range []string{name + ".list", name + ":amd64.list"} {
		data, err := hostText(host, "/var/lib/dpkg/info/"+base)
		if err != nil {
			continue
		}
		var list []string
		for _, l := range strings.Split(data, "\n") {
			if path.IsAbs(l) && l != "/." {
				list = append(list, l)
			}
		}
		return list, true
	}
	return nil, false
}

// isInstalled looks for the package in dpkg's status file: "want", "error" and "status",
// and the last must be installed, whatever is wanted.
func isInstalled(host tree.Source, name string) bool {
	data, err := hostText(host, "/var/lib/dpkg/status")
	if err != nil {
		return false
	}
	for _, p := range strings.Split(data, "\n\n") {
		if f := stanza(p, "Package", "Architecture", "Status"); f["Package"] == name &&
			(f["Architecture"] == "amd64" || f["Architecture"] == "all") && strings.HasSuffix(f["Status"], " ok installed") {
			return true
		}
	}
	return false
}

// stanza reads fields of one paragraph of a file of dpkg's, see deb822(5).
func stanza(text string, keys ...string) map[string]string {
	out := map[string]string{}
	for _, l := range strings.Split(text, "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && slices.Contains(keys, k) {
			out[k] = strings.TrimSpace(v)
		}
	}
	return out
}

func hostText(host tree.Source, name string) (string, error) {
	_, n, _, err := tree.Resolve(host, name)
	if err != nil {
		return "", err
	}
	b, err := n.ReadAll()
	return string(b), err
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
