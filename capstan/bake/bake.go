// Package bake makes images: it gathers a program, its libraries and what its
// manifest adds into a root, and puts kernel, configuration and root together.
package bake

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"kiln/capstan/deb"
	"kiln/capstan/elfinfo"
	"kiln/capstan/erofs"
	"kiln/capstan/manifest"
	"kiln/capstan/tree"
	"kiln/kernel/image"
)

// Options are what all ways of baking share.
type Options struct {
	// Kernel is the kernel's ELF file, "" to look for it. See FindKernel.
	Kernel string
	// Host is the root to take the host's files from; nil is "/" of this machine.
	Host tree.Source
	// Cache is the folder for packages and built programs.
	Cache string
	// Compress, if set, goes before Image.Compress.
	Compress erofs.Compression
	// Log, if set, is told of slow steps.
	Log func(format string, args ...any)
}

func (o *Options) host() tree.Source {
	if o.Host != nil {
		return o.Host
	}
	return tree.HostSource{Dir: "/"}
}

func (o *Options) log(format string, args ...any) {
	if o.Log != nil {
		o.Log(format, args...)
	}
}

// Image is everything of an image but the kernel.
type Image struct {
	Config *image.Config
	Root   *tree.Tree
	// Packages are the Debian packages that files came from, with versions.
	Packages []string
	// Compress is how the root's files are stored; "" is erofs.Auto.
	Compress erofs.Compression
}

// builder gathers one root.
type builder struct {
	opts     *Options
	ctx      context.Context
	out      *tree.Tree
	packages []string // not fetched yet, or all in set
	depends  bool     // fetch what they depend on in one go
	set      *deb.Set
	hostHas  bool // the program is on the host: its files come first
	closure  *elfinfo.Closure
	mounts   []string // where the manifest mounts something
}

// source is where files come from now.
func (b *builder) source() tree.Source {
	host := b.opts.host()
	switch {
	case b.set == nil:
		return tree.Union{host, deb.BaseLayout()}
	case b.hostHas:
		return tree.Union{host, b.set.Files(), deb.BaseLayout()}
	}
	return tree.Union{b.set.Files(), host, deb.BaseLayout()}
}

// fetch gets the packages if there are any and it was not done yet.
func (b *builder) fetch() (bool, error) {
	if b.set != nil || len(b.packages) == 0 {
		return false, nil
	}
	f := &deb.Fetcher{Dir: filepath.Join(b.opts.Cache, "debs"), Log: b.opts.Log}
	var err error
	if b.depends {
		if err = f.FetchAll(b.ctx, b.packages); err != nil {
			return false, err
		}
	}
	b.set, err = f.NewSet(b.ctx, b.packages)
	return err == nil, err
}

// FromManifest gathers the image that a manifest describes.
func FromManifest(ctx context.Context, m *manifest.Manifest, o *Options) (*Image, error) {
	b := &builder{opts: o, ctx: ctx, out: tree.New(), packages: allPackages(m), depends: m.FetchAll}
	for _, mt := range m.Mounts {
		b.mounts = append(b.mounts, path.Clean(mt.Target))
	}
	if err := b.skeleton(m.Users); err != nil {
		return nil, err
	}
	if err := b.build(m); err != nil {
		return nil, err
	}
	if m.Build == nil || m.Build.Go == "" {
		own, err := b.own(m)
		if err != nil {
			return nil, err
		}
		all := true
		for _, x := range m.Executables() {
			if has(tree.Union{own, b.out}, x.Path) { // built, or a link of the manifest's to what is
				continue
			}
			if err := b.program(own, x.Path); err != nil {
				return nil, err
			}
			all = all && b.hostHas
		}
		b.hostHas = all // of what is the manifest's alone, libraries come from the host first
	}
	for _, f := range m.Files {
		if err := b.file(m, f); err != nil {
			return nil, err
		}
	}
	if err := b.libraries(m.Executables(), m.Libraries); err != nil {
		return nil, err
	}
	if err := b.checkMounts(m); err != nil {
		return nil, err
	}
	img := &Image{Config: m.Config(), Root: b.out, Compress: erofs.Compression(m.Compress)}
	if b.set != nil {
		img.Packages = b.set.Names()
	}
	return img, nil
}

// build makes what is to be made from source.
func (b *builder) build(m *manifest.Manifest) error {
	switch {
	case m.Build == nil:
		return nil
	case m.Build.Go != "":
		n, err := buildGo(b.ctx, b.opts, m)
		if err != nil {
			return err
		}
		return b.out.Add(m.Program, n)
	}
	src, err := buildDebian(b.ctx, b.opts, m)
	if err != nil {
		return err
	}
	return b.built(src)
}

// has says whether a file is in a tree.
func has(t tree.Source, name string) bool {
	_, _, _, err := tree.Resolve(t, name)
	return err == nil
}

// own is a root with what the manifest brings itself and nothing else.
func (b *builder) own(m *manifest.Manifest) (*tree.Tree, error) {
	o := &builder{opts: b.opts, out: tree.New()}
	if err := o.skeleton(nil); err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if f.From == "" && f.Text == nil && f.Link == "" && !f.Dir {
			continue
		}
		if err := o.file(m, f); err != nil {
			return nil, err
		}
	}
	return o.out, nil
}

// program copies an executable, from the host if it is there. The manifest's own links
// may lead to it.
func (b *builder) program(own tree.Source, name string) error {
	_, n, _, err := tree.Resolve(tree.Union{own, b.opts.host()}, name)
	if err == nil && n.Mode.IsDir() {
		return fmt.Errorf("%s is a folder, not a program", name)
	}
	b.hostHas = err == nil
	if !b.hostHas && b.set == nil {
		ok, err := b.fetch()
		if err != nil {
			return fmt.Errorf("%s is not on this machine, and: %w", name, err)
		}
		if !ok {
			return fmt.Errorf("%s is not on this machine: install the package that has it", name)
		}
	}
	if err := b.out.CopyPath(tree.Union{own, b.source()}, name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is neither on this machine nor in the packages %s", name, strings.Join(b.packages, ", "))
		}
		return err
	}
	return nil
}

// file adds one entry of a manifest's files.
func (b *builder) file(m *manifest.Manifest, f manifest.File) error {
	var err error
	switch {
	case f.Text != nil:
		err = b.out.Add(f.Path, tree.File(0o644, []byte(*f.Text)))
	case f.Package != "":
		return b.packageFiles(f)
	case f.Link != "":
		err = b.out.Add(f.Path, tree.Symlink(f.Link))
	case f.Dir:
		err = b.out.Add(f.Path, tree.Dir(0o755))
	case f.From != "":
		err = b.copyBeside(m.Dir, f)
	default:
		err = b.fromSource(f)
		if errors.Is(err, fs.ErrNotExist) && !(f.Optional && b.hostHas) {
			ok, ferr := b.fetch()
			if ferr != nil {
				return fmt.Errorf("%s, which the manifest of %s wants, is not on this machine, and: %w", f.Path, m.Name, ferr)
			}
			if ok {
				err = b.fromSource(f)
			}
		}
		if f.Optional && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s, which the manifest of %s wants, is neither on this machine nor in its packages", f.Path, m.Name)
		}
	}
	if err != nil || f.Mode == nil && f.UID == nil && f.GID == nil {
		return err
	}
	_, n, _, err := tree.Resolve(b.out, f.Path)
	if err != nil {
		return err
	}
	if f.Mode != nil {
		n.Mode = n.Mode.Type() | permBits(*f.Mode)
	}
	if f.UID != nil {
		n.UID = *f.UID
	}
	if f.GID != nil {
		n.GID = *f.GID
	}
	return nil
}

func permBits(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for bit, v := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			mode |= v
		}
	}
	return mode
}

func (b *builder) fromSource(f manifest.File) error {
	src := b.source()
	top, _, _, err := tree.Resolve(src, f.Path) // names of a tree are real paths
	if err != nil {
		return err
	}
	return b.out.CopyTree(src, f.Path, func(name string, _ *tree.Node) bool {
		return !excluded(f.Exclude, strings.TrimPrefix(strings.TrimPrefix(name, top), "/"))
	})
}

// excluded says whether a pattern fits a path's last name, or, if the pattern has a
// slash, the whole path.
func excluded(patterns []string, rel string) bool {
	for _, x := range patterns {
		what := rel
		if !strings.Contains(x, "/") {
			what = path.Base(rel)
		}
		if ok, _ := path.Match(x, what); ok {
			return true
		}
	}
	return false
}

// libraries adds what the programs, the named libraries and every ELF file that is in
// the root by now need, and an ld.so.cache that names them all.
func (b *builder) libraries(programs []manifest.Executable, more []string) error {
	var all, elfs []string
	for _, p := range programs {
		elf, err := b.interpreter(p)
		if err != nil {
			return err
		}
		all, elfs = append(all, p.Path), append(elfs, elf)
	}
	var files []string
	brought := map[string]bool{}
	b.out.Walk(func(name string, n *tree.Node) error {
		if n.Mode.IsRegular() && !slices.Contains(elfs, name) && isELF(n) {
			files = append(files, name)
			brought[path.Base(name)] = true
		}
		return nil
	})
	for {
		b.closure = elfinfo.NewClosure(tree.Union{b.out, b.source()})
		var err error
		for i := 0; err == nil && i < len(elfs); i++ {
			err = b.closure.AddProgram(elfs[i], programs[i].LibraryPath)
		}
		for i := 0; err == nil && i < len(files); i++ {
			err = b.closure.AddPlugin(files[i], func(soname string) bool { return brought[soname] })
			var bad *elfinfo.Error
			if errors.As(err, &bad) {
				err = nil // an object file or another machine's code among the data
			}
		}
		for i := 0; err == nil && i < len(more); i++ {
			err = b.closure.AddLibrary(more[i], elfs...)
		}
		if again, err := b.missing(err); err != nil {
			return err
		} else if !again {
			break
		}
	}
	if err := b.addLibraries(); err != nil {
		return err
	}
	return b.executable(append(elfs, all...)...)
}

// missing looks for what the closure lacks, as err says, in packages. It says whether there
// is more to be found now.
func (b *builder) missing(err error) (again bool, _ error) {
	if err == nil {
		return b.unwinder()
	}
	var missing *elfinfo.MissingError
	if !errors.As(err, &missing) {
		return false, err
	}
	ok, ferr := b.provide(missing)
	switch {
	case ferr != nil:
		return false, fmt.Errorf("%w, and: %w", err, ferr)
	case !ok:
		return false, err
	}
	return true, nil
}

// unwinder adds the library that glibc opens itself for pthread_exit(3), pthread_cancel(3),
// which abort the program without it, and backtrace(3). No file names it, but Debian's libc6
// depends on its package, so that programs count on it.
func (b *builder) unwinder() (again bool, err error) {
	const lib = "libgcc_s.so.1"
	libs := b.closure.Libraries()
	i := slices.IndexFunc(libs, func(l elfinfo.Library) bool { return l.Name == "libc.so.6" })
	if i < 0 {
		return false, nil
	}
	err = b.closure.AddLibrary(lib, libs[i].Path)
	var missing *elfinfo.MissingError
	if !errors.As(err, &missing) {
		return false, err
	}
	if b.set == nil {
		return false, nil
	}
	again, err = b.set.ProvideByName(b.ctx, lib)
	if err != nil { // a program that ends no thread so does without
		b.opts.log("%s is left out, without which pthread_exit(3) aborts a program: %v", lib, err)
	}
	return again, nil
}

// addLibraries puts what the closure has into the root.
func (b *builder) addLibraries() error {
	for _, l := range b.closure.Libraries() {
		if err := b.out.CopyPath(tree.Union{b.out, b.source()}, l.Path); err != nil {
			return err
		}
		if err := b.reachable(l.Path); err != nil {
			return err
		}
	}
	cache := b.closure.Cache()
	if len(cache) == 0 {
		return nil
	}
	return b.out.Add(elfinfo.CachePath, tree.File(0o644, elfinfo.LoaderCache(cache)))
}

// executable checks that programs will be seen in the machine, and that they have an
// execute permission, without which not even root may run them.
func (b *builder) executable(programs ...string) error {
	if err := b.reachable(programs...); err != nil {
		return err
	}
	for _, p := range programs {
		_, n, _, err := tree.Resolve(b.out, p)
		if err != nil {
			return err
		}
		if n.Mode&0o111 == 0 {
			return fmt.Errorf("%s is a program and may not be executed by anybody: give it the mode 0755", p)
		}
	}
	return nil
}

func (b *builder) provide(missing *elfinfo.MissingError) (bool, error) {
	if ok, err := b.fetch(); ok || err != nil {
		return ok, err
	}
	if b.set == nil {
		return false, nil
	}
	return b.set.Provide(b.ctx, missing)
}

func isELF(n *tree.Node) bool {
	if n.Size < 64 {
		return false
	}
	r, err := n.Open()
	if err != nil {
		return false
	}
	defer r.Close()
	head := make([]byte, 4)
	_, err = io.ReadFull(r, head)
	return err == nil && bytes.Equal(head, []byte("\x7fELF"))
}

// Write puts an image together and writes it to a file, whole or not at all.
func Write(ctx context.Context, name string, img *Image, o *Options) (image.BootBlock, error) {
	k, err := LoadKernel(o.Kernel)
	if err != nil {
		return image.BootBlock{}, err
	}
	root, err := plan(img, o, k)
	if err != nil {
		return image.BootBlock{}, err
	}
	var boot image.BootBlock
	err = writeFile(name, func(w io.Writer) (err error) {
		if boot, err = image.Write(ctx, w, k, img.Config, root); err == nil {
			err = ctx.Err()
		}
		return err
	})
	return boot, err
}

// plan lays the root out. By itself it is compressed if that makes the image a tenth
// smaller: pages that are compressed cost a start about 4 instructions a byte and memory
// of their own, and an image that is mostly kernel gains little.
func plan(img *Image, o *Options, k *image.Kernel) (*erofs.Layout, error) {
	how := cmp.Or(o.Compress, img.Compress, erofs.Auto)
	if how != erofs.Auto {
		return erofs.Plan(img.Root, how)
	}
	root, err := erofs.Plan(img.Root, erofs.None)
	if err != nil || root.Size() < k.Size()/4 { // LZ4 seldom saves half
		return root, err
	}
	z, err := erofs.Plan(img.Root, erofs.LZ4HC)
	if err != nil || root.Size()-z.Size() >= (k.Size()+root.Size())/10 {
		return z, err
	}
	return root, nil
}

// writeFile writes beside the target and renames.
func writeFile(name string, fn func(io.Writer) error) error {
	dir := filepath.Dir(name)
	if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() {
		what := "no regular file"
		if fi.IsDir() {
			what = "a folder"
		}
		return fmt.Errorf("cannot write %s: it is %s; give a file with -o", name, what)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+"-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w; give another place with -o", name, cause(err))
	}
	defer os.Remove(f.Name())
	err = fn(f)
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Path == f.Name() { // a full disk, not a file that could not be read
		err = fmt.Errorf("cannot write %s: %w", name, pe.Err)
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("cannot write %s: %w", name, cause(cerr))
	}
	if err == nil {
		if err = os.Rename(f.Name(), name); err != nil {
			err = fmt.Errorf("cannot write %s: %w; give another place with -o", name, cause(err))
		}
	}
	return err
}

// cause drops the operation and path that package os puts before an error.
func cause(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}
