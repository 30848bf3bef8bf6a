package elfinfo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"

	"kiln/capstan/tree"
)

// MissingError is a library or an interpreter that a file needs and that is not
// where the program's loader would look.
type MissingError struct {
	By     string // the file that needs it
	Name   string // soname, or path of an interpreter
	Interp bool
}

func (e *MissingError) Error() string {
	if e.Interp {
		return fmt.Sprintf("%s needs the interpreter %s, which is not there: install the C library it was built for, or link it statically", e.By, e.Name)
	}
	return fmt.Sprintf("%s needs the library %s, which is not there: install the package that has it, or add it with a manifest", e.By, e.Name)
}

// Library is one member of a closure.
type Library struct {
	Name string // as DT_NEEDED or PT_INTERP names it
	Path string // where it was found; may pass through links
	Real string // the file behind
}

// Closure finds what programs need in a source, in the order ld.so(8) gives.
type Closure struct {
	src   tree.Source
	dirs  []string // the default places, ld.so.conf's first
	musl  []string
	env   []string           // what the programs' LD_LIBRARY_PATHs name
	found map[string]Library // by name
	info  map[string]*Info   // by real path
	order []string
}

// NewClosure looks in src, whose /etc/ld.so.conf it reads.
func NewClosure(src tree.Source) *Closure {
	c := &Closure{src: src, found: map[string]Library{}, info: map[string]*Info{}}
	c.dirs = append(confDirs(src, "/etc/ld.so.conf", 0),
		"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
	c.musl = []string{"/lib", "/usr/local/lib", "/usr/lib"}
	if b, err := readFile(src, "/etc/ld-musl-x86_64.path"); err == nil {
		c.musl = strings.FieldsFunc(string(b), func(r rune) bool { return r == ':' || r == '\n' })
	}
	// Debian's musl package keeps its libraries apart from glibc's.
	c.musl = append(c.musl, "/usr/lib/x86_64-linux-musl", "/usr/local/lib/x86_64-linux-musl")
	return c
}

// Libraries are the members found so far, in the order they were met.
func (c *Closure) Libraries() []Library {
	var out []Library
	for _, name := range c.order {
		out = append(out, c.found[name])
	}
	return out
}

// Info is what is known of a member by its real path.
func (c *Closure) Info(real string) *Info { return c.info[real] }

type loaded struct {
	path string
	info *Info
	by   *loaded
}

// loader is what the search of a process's loader depends on, beside the file that needs
// a library.
type loader struct {
	musl bool
	env  []string // folders of LD_LIBRARY_PATH
}

// Add takes in a program or library and everything it needs. The error is an *Error,
// a *MissingError, or one of reading.
func (c *Closure) Add(name string) error { return c.AddProgram(name, "") }

// AddProgram is Add for a program that has an LD_LIBRARY_PATH in its environment. What
// the program loads itself, and what it starts, is looked for there too.
func (c *Closure) AddProgram(name, libraryPath string) error {
	if libraryPath == "" {
		return c.add(name, nil, nil)
	}
	_, real, err := c.parse(name)
	if err != nil {
		return err
	}
	env := expand(strings.FieldsFunc(libraryPath, func(r rune) bool { return r == ':' || r == ';' }), real)
	for _, d := range env {
		if !slices.Contains(c.env, d) {
			c.env = append(c.env, d)
		}
	}
	return c.add(name, env, nil)
}

// AddPlugin is Add for a library that a program loads itself. A name that is not found
// but present in the image is taken to be loaded by then: ld.so asks for no file under a
// soname that is in memory already, and so a JVM's libraries find the JVM.
func (c *Closure) AddPlugin(name string, present func(soname string) bool) error {
	return c.add(name, c.env, present)
}

func (c *Closure) add(name string, env []string, present func(soname string) bool) error {
	info, real, err := c.parse(name)
	if err != nil {
		return err
	}
	top := &loaded{path: real, info: info}
	by := loader{isMusl(info), env}
	if info.Interp != "" {
		if err := c.addInterp(name, info.Interp); err != nil {
			return err
		}
	}
	// Breadth first, as ld.so loads them.
	queue := []*loaded{top}
	for len(queue) > 0 {
		l := queue[0]
		queue = queue[1:]
		for _, need := range l.info.Needed {
			if _, ok := c.found[need]; ok {
				continue
			}
			next, lib, err := c.find(l, need, by)
			var missing *MissingError
			if errors.As(err, &missing) && present != nil && present(need) {
				continue
			}
			if err != nil {
				return err
			}
			c.found[need] = lib
			c.order = append(c.order, need)
			queue = append(queue, next)
		}
	}
	return nil
}

// AddLibrary takes in a library by soname or path, as dlopen(3) would find it for
// the program.
func (c *Closure) AddLibrary(name, program string) error {
	if strings.Contains(name, "/") {
		return c.Add(name)
	}
	info, real, err := c.parse(program)
	if err != nil {
		return err
	}
	if _, ok := c.found[name]; ok {
		return nil
	}
	_, lib, err := c.find(&loaded{path: real, info: info}, name, loader{isMusl(info), c.env})
	if err != nil {
		return err
	}
	c.found[name] = lib
	c.order = append(c.order, name)
	return c.AddPlugin(lib.Path, nil)
}

func isMusl(info *Info) bool {
	if strings.HasPrefix(path.Base(info.Interp), "ld-musl-") {
		return true
	}
	for _, n := range info.Needed {
		if strings.HasPrefix(n, "libc.musl-") {
			return true
		}
	}
	return false
}

func (c *Closure) addInterp(by, interp string) error {
	info, real, err := c.parse(interp)
	if errors.Is(err, fs.ErrNotExist) {
		return &MissingError{By: by, Name: interp, Interp: true}
	}
	if err != nil {
		return err
	}
	if _, ok := c.found[interp]; !ok {
		c.found[interp] = Library{interp, interp, real}
		c.order = append(c.order, interp)
	}
	// The interpreter is already in memory under its soname when libraries ask for it.
	if so := info.Soname; so != "" {
		if _, ok := c.found[so]; !ok {
			c.found[so] = Library{so, interp, real}
		}
	}
	if strings.HasPrefix(path.Base(interp), "ld-musl-") {
		// musl's loader is its C library (musl's dynlink.c takes any libc.* name as itself).
		for _, so := range []string{"libc.so", "libc.musl-x86_64.so.1"} {
			if _, ok := c.found[so]; !ok {
				c.found[so] = Library{so, interp, real}
			}
		}
	}
	return nil
}

// parse reads a file of the source once.
func (c *Closure) parse(name string) (*Info, string, error) {
	real, n, _, err := tree.Resolve(c.src, name)
	if err != nil {
		return nil, "", err
	}
	if info := c.info[real]; info != nil {
		return info, real, nil
	}
	if n.Mode.IsDir() {
		return nil, "", fmt.Errorf("%s is a folder, not a program", name)
	}
	b, err := n.ReadAll()
	if err != nil {
		return nil, "", fmt.Errorf("reading %s: %w", name, err)
	}
	info, err := Parse(bytes.NewReader(b), int64(len(b)), name)
	if err != nil {
		return nil, "", err
	}
	c.info[real] = info
	return info, real, nil
}

// find looks for a name needed by l.
func (c *Closure) find(l *loaded, need string, by loader) (*loaded, Library, error) {
	if strings.Contains(need, "/") {
		info, real, err := c.parse(need)
		if err != nil {
			return nil, Library{}, &MissingError{By: l.path, Name: need}
		}
		return &loaded{real, info, l}, Library{need, need, real}, nil
	}
	dirs := append(by.dirs(l), c.dirs...)
	if by.musl {
		dirs = append(by.dirs(l), c.musl...)
	}
	var wrong error
	for _, d := range dirs {
		p := path.Join(d, need)
		info, real, err := c.parse(p)
		if err == nil {
			return &loaded{real, info, l}, Library{need, p, real}, nil
		}
		// A file of another machine or class is passed over, as ld.so does.
		var bad *Error
		if errors.As(err, &bad) && wrong == nil {
			wrong = err
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &bad) {
			return nil, Library{}, err
		}
	}
	if wrong != nil {
		return nil, Library{}, fmt.Errorf("%s needs the library %s, and the only one found is no use: %w", l.path, need, wrong)
	}
	return nil, Library{}, &MissingError{By: l.path, Name: need}
}

// dirs are the folders that come before the default places. ld.so(8): DT_RPATH of l and
// of those that loaded it (only where l has no DT_RUNPATH), LD_LIBRARY_PATH, DT_RUNPATH
// of l. To musl (dynlink.c, load_library) the two tags are one, and LD_LIBRARY_PATH
// comes first.
func (by loader) dirs(l *loaded) []string {
	var dirs []string
	if by.musl {
		dirs = slices.Clone(by.env)
		for p := l; p != nil; p = p.by {
			if len(p.info.RunPath) > 0 {
				dirs = append(dirs, expand(p.info.RunPath, p.path)...)
			} else {
				dirs = append(dirs, expand(p.info.RPath, p.path)...)
			}
		}
		return dirs
	}
	if len(l.info.RunPath) == 0 {
		for p := l; p != nil; p = p.by {
			if len(p.info.RunPath) == 0 {
				dirs = append(dirs, expand(p.info.RPath, p.path)...)
			}
		}
	}
	dirs = append(dirs, by.env...)
	return append(dirs, expand(l.info.RunPath, l.path)...)
}

func expand(dirs []string, file string) []string {
	origin := path.Dir(file)
	r := strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin, "${LIB}", "lib/x86_64-linux-gnu",
		"$LIB", "lib/x86_64-linux-gnu", "${PLATFORM}", "x86_64", "$PLATFORM", "x86_64")
	var out []string
	for _, d := range dirs {
		if d = r.Replace(d); path.IsAbs(d) {
			out = append(out, d)
		}
	}
	return out
}

// confDirs reads ld.so.conf with its include lines. ldconfig(8).
func confDirs(src tree.Source, name string, depth int) []string {
	b, err := readFile(src, name)
	if err != nil || depth > 8 {
		return nil
	}
	var dirs []string
	for _, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include"); ok && pattern != "" && (pattern[0] == ' ' || pattern[0] == '\t') {
			pattern = strings.TrimSpace(pattern)
			if !path.IsAbs(pattern) {
				pattern = path.Join(path.Dir(name), pattern)
			}
			for _, f := range glob(src, pattern) {
				dirs = append(dirs, confDirs(src, f, depth+1)...)
			}
			continue
		}
		for _, d := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t:,", r) }) {
			d, _, _ = strings.Cut(d, "=")
			if path.IsAbs(d) {
				dirs = append(dirs, path.Clean(d))
			}
		}
	}
	return dirs
}

// glob matches a pattern in the last component only, which is all that ld.so.conf
// files in use have.
func glob(src tree.Source, pattern string) []string {
	dir, base := path.Split(pattern)
	real, _, _, err := tree.Resolve(src, dir)
	if err != nil {
		return nil
	}
	names, err := src.ReadDir(real)
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range names {
		if ok, err := path.Match(base, n); ok && err == nil {
			out = append(out, path.Join(dir, n))
		}
	}
	sort.Strings(out)
	return out
}

func readFile(src tree.Source, name string) ([]byte, error) {
	_, n, _, err := tree.Resolve(src, name)
	if err != nil {
		return nil, err
	}
	return n.ReadAll()
}
