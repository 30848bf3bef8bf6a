package bake

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"kiln/capstan/deb"
	"kiln/capstan/elfinfo"
	"kiln/capstan/manifest"
	"kiln/capstan/tree"
	"kiln/kernel/image"
)

// FromProgram gathers the image of a program on this machine and its libraries.
func FromProgram(ctx context.Context, file string, o *Options) (*Image, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(abs)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", file, cause(err))
	}
	name := filepath.Base(abs)
	if !staysInPlace(abs) {
		// What $ORIGIN and /proc/self/exe mean is the file behind a link.
		if abs, err = filepath.EvalSymlinks(abs); err != nil {
			return nil, fmt.Errorf("%s cannot be read: %w", file, cause(err))
		}
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: give a program, a manifest's folder or a root's folder", file)
	}
	info, err := parseHostFile(abs, file)
	if err != nil {
		return nil, err
	}
	if info.Interp == "" && info.Type == etDyn && info.Flags1&df1PIE == 0 && len(info.Needed) > 0 {
		return nil, fmt.Errorf("%s is a shared library, not a program: give the program that uses it", file)
	}
	b := &builder{opts: o, ctx: ctx, out: tree.New(), hostHas: true}
	if err := b.skeleton(nil); err != nil {
		return nil, err
	}
	program := placeOf(abs, name, info)
	if err := b.hostProgram(abs, program); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", file, cause(err))
	}
	if err := b.libraries([]manifest.Executable{{Path: program}}, nil); err != nil {
		return nil, renamed(err, program, file)
	}
	cfg := simpleConfig(program)
	cfg.Name, cfg.Args, cfg.Hostname = name, []string{name}, hostname(name)
	return &Image{Config: cfg, Root: b.out}, nil
}

// hostProgram puts a program of this machine, which was named, whatever else is not to be
// used of it, into the root: one that stays in its place with the links that lead to it.
func (b *builder) hostProgram(abs, program string) error {
	if staysInPlace(abs) {
		return b.out.CopyPath(tree.HostSource{Dir: "/"}, abs)
	}
	n, err := tree.HostFile(abs)
	if err != nil {
		return err
	}
	n.Mode |= 0o555
	return b.out.Add(program, n)
}

const (
	etDyn  = 3
	df1PIE = 0x08000000 // DF_1_PIE
)

// renamed makes a message speak of the file that the user gave.
func renamed(err error, program, file string) error {
	if m, ok := err.(*elfinfo.MissingError); ok && m.By == program {
		return &elfinfo.MissingError{By: file, Name: m.Name, Interp: m.Interp}
	}
	return err
}

func parseHostFile(abs, shown string) (*elfinfo.Info, error) {
	f, err := os.Open(abs)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", shown, cause(err))
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return elfinfo.Parse(f, fi.Size(), shown)
}

// staysInPlace says whether a program is the system's.
func staysInPlace(abs string) bool {
	for _, d := range []string{"/usr/", "/bin/", "/sbin/", "/opt/", "/lib/"} {
		if strings.HasPrefix(abs, d) {
			return true
		}
	}
	return false
}

// placeOf is where a program of this machine goes in the image: a program of the
// system stays where it is, and so does one that finds its libraries relative to
// itself; any other goes to /usr/local/bin, since its folder means nothing there.
func placeOf(abs, name string, info *elfinfo.Info) string {
	if staysInPlace(abs) {
		return abs
	}
	for _, d := range append(info.RPath, info.RunPath...) {
		if strings.Contains(d, "ORIGIN") {
			return abs
		}
	}
	return "/usr/local/bin/" + name
}

func simpleConfig(program string) *image.Config {
	name := path.Base(program)
	return &image.Config{
		Version: image.ConfigVersion, Name: name, Program: program, Args: []string{name},
		Env: manifest.Environment(nil), Hostname: hostname(name),
	}
}

// hostname makes a name that hostname(7) allows.
func hostname(name string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	if s = strings.Trim(s, "-"); s == "" {
		s = "kiln"
	}
	return s[:min(len(s), 63)]
}

// notForImages are parts of packages and roots that no running program needs.
var notForImages = []string{"/usr/share/doc", "/usr/share/man", "/usr/share/info", "/usr/share/lintian",
	"/usr/share/bug", "/var/cache/apt", "/var/lib/apt/lists"}

func skipped(name string) bool {
	for _, d := range notForImages {
		if name == d || strings.HasPrefix(name, d+"/") {
			return true
		}
	}
	return false
}

// FromPackage gathers the image of a Debian package: its files, and the libraries of
// its program from what it depends on.
func FromPackage(ctx context.Context, name, program string, o *Options) (*Image, error) {
	b := &builder{opts: o, ctx: ctx, out: tree.New(), packages: []string{name}}
	if _, err := b.fetch(); err != nil {
		return nil, err
	}
	if err := b.skeleton(nil); err != nil {
		return nil, err
	}
	files := b.set.Package(name).Files
	if program == "" {
		var err error
		if program, err = packageProgram(b.set.Package(name)); err != nil {
			return nil, err
		}
	}
	if err := b.out.CopyTree(files, "/", func(n string, _ *tree.Node) bool { return !skipped(n) }); err != nil {
		return nil, err
	}
	if _, _, _, err := tree.Resolve(b.out, program); err != nil {
		return nil, fmt.Errorf("the package %s has no %s: look at `dpkg -c`, and give one with --program", name, program)
	}
	if err := b.libraries([]manifest.Executable{{Path: program}}, nil); err != nil {
		return nil, err
	}
	cfg := simpleConfig(program)
	cfg.Name = name
	return &Image{Config: cfg, Root: b.out, Packages: b.set.Names()}, nil
}

// packageProgram finds the program that a package is about.
func packageProgram(p *deb.Package) (string, error) {
	var all []string
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/games"} {
		names, _ := p.Files.ReadDir(dir)
		for _, n := range names {
			file := path.Join(dir, n)
			if _, node, _, err := tree.Resolve(p.Files, file); err != nil || !node.Mode.IsRegular() || !isELF(node) {
				continue
			}
			if n == p.Name {
				return file, nil
			}
			all = append(all, file)
		}
	}
	sort.Strings(all)
	switch len(all) {
	case 0:
		hint := "name the package that has it"
		if others := p.Depends(); len(others) > 0 {
			hint += ", perhaps " + some(others, ", ")
		}
		return "", fmt.Errorf("the package %s has no program in its bin folders: %s", p.Name, hint)
	case 1:
		return all[0], nil
	}
	return "", fmt.Errorf("the package %s has %d programs: choose one with --program: %s", p.Name, len(all), some(all, ", "))
}

// some joins the first few of a list.
func some(list []string, sep string) string {
	const few = 8
	if len(list) <= few {
		return strings.Join(list, sep)
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:few], sep), len(list)-few)
}

// FromDir gathers the image of a folder: one with a manifest, else an unpacked root
// of which program is a file.
func FromDir(ctx context.Context, dir, program string, o *Options) (*Image, error) {
	if _, err := os.Stat(filepath.Join(dir, manifest.FileName)); err == nil {
		m, err := manifest.Load(os.DirFS(dir))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		return FromManifest(ctx, m, o)
	}
	if program == "" {
		return nil, fmt.Errorf("%s has no %s, so it is taken for an unpacked root: say with --program which of its files to run", dir, manifest.FileName)
	}
	return FromRoot(ctx, tree.HostSource{Dir: dir, KeepOwner: os.Getuid() == 0}, program, o)
}

// FromRoot gathers the image of a whole root file system.
func FromRoot(ctx context.Context, root tree.Source, program string, o *Options) (*Image, error) {
	return fromRoot(ctx, root, manifest.Executable{Path: program}, o)
}

func fromRoot(ctx context.Context, root tree.Source, x manifest.Executable, o *Options) (*Image, error) {
	program := x.Path
	opts := *o
	opts.Host = root // nothing may come from this machine
	b := &builder{opts: &opts, ctx: ctx, out: tree.New(), hostHas: true}
	if !path.IsAbs(program) {
		return nil, fmt.Errorf("the program %q must be an absolute path in the root", program)
	}
	if err := b.out.CopyTree(root, "/", func(n string, _ *tree.Node) bool { return !skipped(n) }); err != nil {
		return nil, err
	}
	if _, n, _, err := tree.Resolve(b.out, program); err != nil || n.Mode.IsDir() {
		return nil, fmt.Errorf("the root has no program %s", program)
	}
	if err := b.fill(); err != nil {
		return nil, err
	}
	elf, err := b.interpreter(x) // a container's entry point is often a script
	if err != nil {
		return nil, err
	}
	c := elfinfo.NewClosure(b.out)
	if err := c.AddProgram(elf, x.LibraryPath); err != nil {
		return nil, err
	}
	for _, l := range c.Libraries() {
		if err := b.reachable(l.Path); err != nil {
			return nil, err
		}
	}
	if err := b.executable(program, elf); err != nil {
		return nil, err
	}
	return &Image{Config: simpleConfig(program), Root: b.out}, nil
}

// fill adds what a root lacks of the skeleton and changes nothing that it has.
func (b *builder) fill() error {
	s := &builder{opts: b.opts, out: tree.New()}
	if err := s.skeleton(nil); err != nil {
		return err
	}
	return s.out.Walk(func(name string, n *tree.Node) error {
		if name == "/" {
			return nil
		}
		if _, _, steps, err := tree.Resolve(b.out, name); err == nil || len(steps) > 0 && steps[len(steps)-1].Path == name {
			return nil
		}
		c := *n
		if c.Mode.IsDir() {
			c = *tree.Dir(n.Mode &^ fs.ModeDir)
		}
		return b.out.Add(name, &c)
	})
}
