// Package deb reads Debian packages without installing them, and fetches them with
// the host's own apt-get, which knows the sources and checks the signatures.
//
// A package file is an ar archive of debian-binary, control.tar.* and data.tar.*
// (deb(5)). It is read into a tree in memory, owners and modes as the package has
// them, so that nothing here needs root.
package deb

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"kiln/capstan/tree"
)

// Package is an unpacked package.
type Package struct {
	Name, Version, Arch string
	// Choices are the alternatives of each package of Pre-Depends and Depends.
	Choices [][]string
	Files   *tree.Tree
}

// Depends are the first choices.
func (p *Package) Depends() (names []string) {
	for _, alts := range p.Choices {
		names = append(names, alts[0])
	}
	return names
}

// maxData bounds the unpacked size of a package, which pack holds in memory. A variable for
// the fuzz target, whose processes are to be small.
var maxData int64 = 2 << 30

// Read unpacks a package.
func Read(r io.Reader) (*Package, error) {
	br := bufio.NewReader(r)
	magic := make([]byte, 8)
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != "!<arch>\n" {
		return nil, errors.New("it is not a Debian package (no ar archive)")
	}
	p := &Package{}
	for {
		name, size, err := arHeader(br)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		body := &io.LimitedReader{R: br, N: size}
		switch {
		case name == "debian-binary":
			b, err := io.ReadAll(io.LimitReader(body, 64))
			if err != nil || !strings.HasPrefix(string(b), "2.") {
				return nil, fmt.Errorf("its format version is %q, and 2.0 is known", strings.TrimSpace(string(b)))
			}
		case strings.HasPrefix(name, "control.tar"):
			if err := decompressed(name, body, p.readControl); err != nil {
				return nil, err
			}
		case strings.HasPrefix(name, "data.tar"):
			if err := decompressed(name, body, p.readData); err != nil {
				return nil, err
			}
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return nil, err
		}
		if body.N != 0 {
			return nil, errors.New("it is a truncated Debian package")
		}
		if size%2 == 1 {
			br.Discard(1)
		}
	}
	if p.Name == "" || p.Files == nil {
		return nil, errors.New("it is a truncated Debian package: a control or data archive is missing")
	}
	return p, nil
}

// arHeader reads a member's 60-byte header: name, time, owner, group, mode, size.
func arHeader(r io.Reader) (name string, size int64, err error) {
	h := make([]byte, 60)
	if _, err := io.ReadFull(r, h); err != nil {
		if err == io.ErrUnexpectedEOF {
			return "", 0, errors.New("it is a truncated ar archive")
		}
		return "", 0, err
	}
	size, err = strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 || h[58] != '`' || h[59] != '\n' {
		return "", 0, errors.New("it is a damaged ar archive")
	}
	return strings.TrimSuffix(strings.TrimSpace(string(h[:16])), "/"), size, nil
}

func decompressed(name string, r io.Reader, fn func(*tar.Reader) error) error {
	switch path.Ext(name) {
	case ".tar":
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r = z
	case ".xz":
		z, err := xz.NewReader(bufio.NewReader(r))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r = z
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(uint64(maxData)))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer z.Close()
		r = z
	default:
		return fmt.Errorf("its %s is compressed in a way that pack does not know", name)
	}
	if err := fn(tar.NewReader(r)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *Package) readControl(t *tar.Reader) error {
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if path.Clean(h.Name) != "control" {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(t, 1<<20))
		if err != nil {
			return err
		}
		p.parseControl(string(b))
	}
}

func (p *Package) parseControl(text string) {
	for _, line := range strings.Split(text, "\n") {
		key, val, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, " ") {
			continue
		}
		val = strings.TrimSpace(val)
		switch key {
		case "Package":
			p.Name = val
		case "Version":
			p.Version = val
		case "Architecture":
			p.Arch = val
		case "Pre-Depends", "Depends":
			for _, d := range strings.Split(val, ",") {
				if alts := alternatives(d); len(alts) > 0 {
					p.Choices = append(p.Choices, alts)
				}
			}
		}
	}
}

// alternatives are the names of one dependency, without versions.
func alternatives(text string) (names []string) {
	for _, d := range strings.Split(text, "|") {
		d, _, _ = strings.Cut(d, "(")
		d, _, _ = strings.Cut(strings.TrimSpace(d), ":") // an architecture, as in python3:any
		if d = strings.TrimSpace(d); d != "" {
			names = append(names, d)
		}
	}
	return names
}

// mergedUsr are the folders that are links into /usr on Debian 12, and not in its
// packages.
var mergedUsr = []string{"bin", "sbin", "lib", "lib64", "lib32", "libx32"}

// UsrPath is where a file of a package is on a system with merged /usr.
func UsrPath(name string) string {
	name = path.Clean("/" + name)
	for _, d := range mergedUsr {
		if name == "/"+d || strings.HasPrefix(name, "/"+d+"/") {
			return "/usr" + name
		}
	}
	return name
}

func (p *Package) readData(t *tar.Reader) error {
	p.Files = tree.New()
	return p.Files.AddTar(t, maxData, UsrPath)
}

// BaseLayout is the links into /usr that every Debian root has.
func BaseLayout() *tree.Tree {
	t := tree.New()
	for _, d := range mergedUsr[:4] {
		t.Add("/"+d, tree.Symlink("usr/"+d))
	}
	return t
}
