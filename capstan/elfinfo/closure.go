package elfinfo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	// Default is whether ld.so would find it there for any program.
	Default bool
}

// Closure finds what programs need in a source, in the order ld.so(8) gives. Each program
// is a process: what another has in memory under a name is nothing to it.
type Closure struct {
	src    tree.Source
	dirs   []string // the default places, ld.so.conf's first
	musl   []string
	env    []string          // what the programs' LD_LIBRARY_PATHs name
	files  map[string]parsed // by path
	info   map[string]*Info  // by real path
	order  []Library
	met    map[Library]bool
	names  map[string]bool // of all that was met
	interp map[string]bool // what libraries call the interpreters
	common map[string]bool // names that every program has in memory; nil before the first
}

// NewClosure looks in src, whose /etc/ld.so.conf it reads.
func NewClosure(src tree.Source) *Closure {
	c := &Closure{src: src, files: map[string]parsed{}, info: map[string]*Info{}, met: map[Library]bool{},
		names: map[string]bool{}, interp: map[string]bool{}}
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
func (c *Closure) Libraries() []Library { return slices.Clone(c.order) }

func (c *Closure) meet(l Library) {
	c.names[l.Name] = true
	if !c.met[l] {
		c.met[l] = true
		c.order = append(c.order, l)
	}
}

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
	top, err := c.load(name)
	if err != nil {
		return err
	}
	env := expand(strings.FieldsFunc(libraryPath, func(r rune) bool { return r == ':' || r == ';' }), top.path)
	for _, d := range env {
		if !slices.Contains(c.env, d) {
			c.env = append(c.env, d)
		}
	}
	memory := map[string]bool{}
	if err := c.follow(top, env, memory, nil); err != nil || top.info.Interp == "" {
		return err
	}
	if c.common == nil {
		c.common = memory
	}
	maps.DeleteFunc(c.common, func(name string, _ bool) bool { return !memory[name] })
	return nil
}

// AddPlugin is Add for a library that a program loads itself, or a program that it starts.
// ld.so asks for no file under a name that is in memory already: one that every program has
// is not looked for, and one that is not found where the loader would look, but is of another
// member or present in the image, is taken to be loaded by then. So a JVM's libraries find
// the JVM.
func (c *Closure) AddPlugin(name string, present func(soname string) bool) error {
	top, err := c.load(name)
	if err != nil {
		return err
	}
	memory := map[string]bool{}
	if top.info.Interp == "" {
		maps.Copy(memory, c.common)
	}
	return c.follow(top, c.env, memory, func(need string) bool {
		return c.names[need] || present != nil && present(need)
	})
}

// load takes in a file's interpreter.
func (c *Closure) load(name string) (*loaded, error) {
	info, real, err := c.parse(name)
	if err != nil {
		return nil, err
	}
	if info.Interp != "" {
		err = c.addInterp(name, info.Interp)
	}
	return &loaded{path: real, info: info}, err
}

// follow takes in what a file needs and is not in memory, breadth first, as ld.so does.
// What is not found is no error if present says so.
func (c *Closure) follow(top *loaded, env []string, memory map[string]bool, present func(string) bool) error {
	by := loader{isMusl(top.info), env}
	queue := []*loaded{top}
	for len(queue) > 0 {
		l := queue[0]
		queue = queue[1:]
		for _, need := range l.info.Needed {
			if memory[need] || c.interp[need] {
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
			memory[need] = true
			c.meet(lib)
			queue = append(queue, next)
		}
	}
	return nil
}

// AddLibrary takes in a library by soname or path, as dlopen(3) would find it for the
// programs, of which each has its own loader and its own places: one of them is to find it.
func (c *Closure) AddLibrary(name string, programs ...string) error {
	if strings.Contains(name, "/") {
		return c.AddPlugin(name, nil)
	}
	var first error
	found := false
	for _, p := range programs {
		err := c.addLibrary(name, p)
		var missing *MissingError
		if err != nil && !(errors.As(err, &missing) && missing.Name == name) {
			return err
		}
		if found = found || err == nil; first == nil {
			first = err
		}
	}
	if found {
		return nil
	}
	return first
}

func (c *Closure) addLibrary(name, program string) error {
	info, real, err := c.parse(program)
	if err != nil {
		return err
	}
	if c.common[name] || c.interp[name] {
		return nil
	}
	_, lib, err := c.find(&loaded{path: real, info: info}, name, loader{isMusl(info), c.env})
	var missing *MissingError
	if errors.As(err, &missing) && c.names[name] {
		return nil // what another member brought
	}
	if err != nil {
		return err
	}
	c.meet(lib)
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
	c.meet(Library{Name: interp, Path: interp, Real: real})
	// The interpreter is already in memory under its soname when libraries ask for it.
	if info.Soname != "" {
		c.interp[info.Soname] = true
	}
	if strings.HasPrefix(path.Base(interp), "ld-musl-") {
		// musl's loader is its C library (musl's dynlink.c takes any libc.* name as itself).
		c.interp["libc.so"], c.interp["libc.musl-x86_64.so.1"] = true, true
	}
	return nil
}

type parsed struct {
	info *Info
	real string
	err  error
}

// parse reads a file of the source once.
func (c *Closure) parse(name string) (*Info, string, error) {
	p, ok := c.files[name]
	if !ok {
		p.info, p.real, p.err = c.read(name)
		c.files[name] = p
	}
	return p.info, p.real, p.err
}

func (c *Closure) read(name string) (*Info, string, error) {
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
		return &loaded{real, info, l}, Library{Name: need, Path: need, Real: real}, nil
	}
	first, places := by.dirs(l), c.dirs
	if by.musl {
		places = c.musl
	}
	var wrong error
	for i, d := range slices.Concat(first, places) {
		p := path.Join(d, need)
		info, real, err := c.parse(p)
		if err == nil {
			return &loaded{real, info, l}, Library{need, p, real, !by.musl && i >= len(first)}, nil
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
