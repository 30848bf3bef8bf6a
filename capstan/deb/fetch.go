package deb

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"kiln/capstan/elfinfo"
	"kiln/capstan/scratch"
	"kiln/capstan/tree"
)

// Fetcher gets packages from apt and keeps them in a folder.
type Fetcher struct {
	// Dir is where package files are kept, one file a package and version.
	Dir string
	// Log, if set, is told of each download in a sentence.
	Log func(format string, args ...any)

	read map[string]*Package
	// resolved are the files of packages by name that FetchAll got: nothing else is asked for.
	resolved map[string]string
	// own is set once the host's package lists turned out to be missing or old: pack
	// then keeps lists of its own, for which it need not be root.
	own bool
	// candidates are apt's answers so far, by package; "" is that there is none.
	candidates map[string]string
}

// ErrNoApt means that this machine cannot fetch Debian packages.
var ErrNoApt = errors.New("this machine has no apt-get to fetch Debian packages with: install the program here, or bake on a Debian machine")

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// Get is a package by name, from the cache if the version that apt would install, or
// without network any version, is there.
func (f *Fetcher) Get(ctx context.Context, name string) (*Package, error) {
	if p := f.read[name]; p != nil {
		return p, nil
	}
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("%q cannot be the name of a Debian package (small letters, digits, + - .)", name)
	}
	file, err := f.file(ctx, name)
	if err != nil {
		return nil, err
	}
	p, err := ReadFile(file)
	if err != nil {
		return nil, err
	}
	if f.read == nil {
		f.read = map[string]*Package{}
	}
	f.read[name] = p
	return p, nil
}

// ReadFile unpacks a package file.
func ReadFile(name string) (*Package, error) {
	r, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := Read(r)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be unpacked: %w", name, err)
	}
	return p, nil
}

// aptTimeout bounds a question to apt, downloadTimeout a package; freshFor is how long
// apt's word on which version is current is taken, listsFor how long pack's own package
// lists are.
const (
	aptTimeout      = 60 * time.Second
	downloadTimeout = 10 * time.Minute
	freshFor        = 24 * time.Hour
	listsFor        = time.Hour
)

// file is the path of the package's file in the cache.
func (f *Fetcher) file(ctx context.Context, name string) (string, error) {
	if file := f.resolved[name]; file != "" {
		return file, nil
	}
	// Asking apt takes a third of a second for each package, so an answer holds a day.
	if old := f.cached(name); old != "" {
		if fi, err := os.Stat(old); err == nil && time.Since(fi.ModTime()) < freshFor {
			return old, nil
		}
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		if old := f.cached(name); old != "" {
			return old, nil
		}
		return "", ErrNoApt
	}
	file, err := f.current(ctx, name)
	if err == nil {
		return file, nil
	}
	if old := f.cached(name); old != "" {
		return old, nil
	}
	if f.own {
		return "", err
	}
	if uerr := f.update(ctx); uerr != nil {
		return "", fmt.Errorf("%v, and new package lists cannot be had either: %w", err, uerr) // so that there is no such package is not known
	}
	return f.current(ctx, name)
}

// current is the file of the version that apt would install, fetched if need be.
func (f *Fetcher) current(ctx context.Context, name string) (string, error) {
	base, err := f.candidate(ctx, name)
	if err != nil {
		return "", err
	}
	if file := f.archive(base); file != "" {
		os.Chtimes(file, time.Time{}, time.Now()) // current as of now
		return file, nil
	}
	return f.download(ctx, name, base)
}

// knows says whether there is such a package, without the network.
func (f *Fetcher) knows(ctx context.Context, name string) bool {
	if f.resolved != nil {
		return f.resolved[name] != ""
	}
	if f.cached(name) != "" {
		return true
	}
	_, err := f.candidate(ctx, name)
	return err == nil
}

// update fetches package lists into the cache, from the host's sources and checked with
// its keys, and makes apt use them from now on.
func (f *Fetcher) update(ctx context.Context) error {
	f.own, f.candidates = true, nil
	if f.updated() {
		return nil
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(f.Dir, "apt", d), 0o755); err != nil {
			return fmt.Errorf("the package cache cannot be made: %w", err)
		}
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if f.updated() { // by who had the lock
		return nil
	}
	if f.Log != nil {
		f.Log("fetching Debian's package lists, as this machine's are missing or old")
	}
	if _, err := f.apt(ctx, downloadTimeout, "", "update"); err != nil {
		return err
	}
	return os.WriteFile(f.marker(), nil, 0o644)
}

func (f *Fetcher) marker() string { return filepath.Join(f.Dir, "apt", "updated") }

func (f *Fetcher) updated() bool {
	fi, err := os.Stat(f.marker())
	return err == nil && time.Since(fi.ModTime()) < listsFor
}

// lock waits until no other pack fetches package lists: apt's own lock would not wait.
func (f *Fetcher) lock(ctx context.Context) (unlock func(), err error) {
	l, err := os.Open(filepath.Join(f.Dir, "apt"))
	if err != nil {
		return nil, fmt.Errorf("the package cache cannot be read: %w", err)
	}
	for said := false; ; said = true {
		// A file system that has no locks is done without.
		if err := unix.Flock(int(l.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK && err != unix.EINTR {
			return func() { l.Close() }, nil
		}
		if !said && f.Log != nil {
			f.Log("waiting for another pack that fetches Debian's package lists")
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			l.Close()
			return nil, ctx.Err()
		}
	}
}

// cached is the newest file of that name in the cache by time, "" if there is none.
func (f *Fetcher) cached(name string) string {
	files, _ := filepath.Glob(filepath.Join(f.Dir, name+"_*.deb"))
	var best string
	var bestTime time.Time
	for _, file := range files {
		if fi, err := os.Stat(file); err == nil && (best == "" || fi.ModTime().After(bestTime)) {
			best, bestTime = file, fi.ModTime()
		}
	}
	return best
}

// candidate asks apt, which needs no network for it, for the file name of the version
// that it would install.
func (f *Fetcher) candidate(ctx context.Context, name string) (string, error) {
	if file, ok := f.candidates[name]; ok && file == "" {
		return "", &noPackageError{name}
	} else if ok {
		return file, nil
	}
	if f.candidates == nil {
		f.candidates = map[string]string{}
	}
	// In an empty folder: apt-get says nothing of a file that is already there.
	dir, done, err := scratch.Make("", "kiln-apt-")
	if err != nil {
		return "", err
	}
	defer done()
	ask := []string{"download", "--print-uris", name}
	out, err := f.apt(ctx, aptTimeout, dir, ask...)
	var none *noPackageError
	switch {
	case errors.As(err, &none):
		f.candidates[name] = ""
	case err != nil: // a version that is installed here, and that no source has
		out, err = f.apt(ctx, aptTimeout, dir, append(slices.Clone(emptyMachine), ask...)...)
	}
	if err != nil {
		return "", err
	}
	if files := printed(out); len(files) > 0 {
		f.candidates[name] = files[0]
		return files[0], nil
	}
	return "", fmt.Errorf("apt-get has no file to download for the package %s", name)
}

func (f *Fetcher) download(ctx context.Context, name, base string) (string, error) {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return "", fmt.Errorf("the package cache cannot be made: %w", err)
	}
	tmp, done, err := scratch.Make(f.Dir, ".fetch-")
	if err != nil {
		return "", fmt.Errorf("the package cache cannot be written: %w", err)
	}
	defer done()
	if f.Log != nil {
		f.Log("fetching the package %s", name)
	}
	if _, err := f.apt(ctx, downloadTimeout, tmp, "download", version(base)); err != nil {
		return "", err
	}
	got, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(got) != 1 {
		return "", fmt.Errorf("apt-get fetched %d files for the package %s, expected one", len(got), name)
	}
	file := filepath.Join(f.Dir, base)
	os.Chtimes(got[0], time.Time{}, time.Now())     // apt-get sets the server's time
	if err := os.Rename(got[0], file); err != nil { // whole or not at all
		return "", err
	}
	return file, nil
}

// emptyMachine makes apt answer for a machine that has nothing installed, without an index of
// it that would replace the host's own.
var emptyMachine = []string{"-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Debug::NoLocking=1"}

// version is how apt takes the version of a package that a file has, whichever is installed.
func version(base string) string {
	name, rest, _ := strings.Cut(base, "_")
	v, _, _ := strings.Cut(rest, "_")
	return name + "=" + v
}

func (f *Fetcher) apt(ctx context.Context, limit time.Duration, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// As root, apt would hand downloads to the user _apt, who cannot write here.
	opts := []string{"-qq", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2"}
	if f.own {
		own, err := filepath.Abs(filepath.Join(f.Dir, "apt"))
		if err != nil {
			return "", err
		}
		opts = append(opts, "-o", "Dir::State::Lists="+filepath.Join(own, "lists"), "-o", "Dir::Cache="+filepath.Join(own, "cache"))
	}
	args = append(opts, args...)
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("apt-get %s took longer than %v: look at the network and try again", args[len(args)-1], limit)
		}
		if args[len(args)-1] == "update" {
			return "", fmt.Errorf("apt-get update fails: %s", aptSays(errb.String()))
		}
		return "", aptError(args[len(args)-1], errb.String())
	}
	return out.String(), nil
}

var unknownPackage = regexp.MustCompile(`Unable to locate package ([a-z0-9][a-z0-9+.-]+)`)

// noPackageError is a name that no package has that apt could install: a virtual one may be
// known otherwise.
type noPackageError struct{ name string }

func (e *noPackageError) Error() string {
	return fmt.Sprintf("apt knows no package %s: look at the spelling, or at the sources in /etc/apt", e.name)
}

func aptError(name, text string) error {
	if m := unknownPackage.FindStringSubmatch(text); m != nil {
		name = m[1] // of several that were asked for
	}
	for _, says := range []string{"Unable to locate package", "no installation candidate", "has no candidate"} {
		if strings.Contains(text, says) {
			return &noPackageError{name}
		}
	}
	return fmt.Errorf("apt-get cannot fetch the package %s: %s", name, aptSays(text))
}

// aptSays is the first error in apt's words.
func aptSays(text string) string {
	for _, line := range strings.Split(text, "\n") {
		if msg, ok := strings.CutPrefix(line, "E: "); ok {
			return msg
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// Set is some packages as one source, which can grow by what they depend on.
type Set struct {
	f        *Fetcher
	packages map[string]*Package
	files    *tree.Tree
}

// NewSet gets the named packages.
func (f *Fetcher) NewSet(ctx context.Context, names []string) (*Set, error) {
	s := &Set{f: f, packages: map[string]*Package{}, files: tree.New()}
	for _, n := range names {
		if err := s.add(ctx, n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Files are the packages' files together.
func (s *Set) Files() *tree.Tree { return s.files }

// Package is a member, nil if the set does not have it.
func (s *Set) Package(name string) *Package { return s.packages[name] }

// Names are the members with their versions.
func (s *Set) Names() []string {
	var out []string
	for _, p := range s.packages {
		out = append(out, p.Name+" "+p.Version)
	}
	sort.Strings(out)
	return out
}

func (s *Set) add(ctx context.Context, name string) error {
	if s.packages[name] != nil {
		return nil
	}
	p, err := s.f.Get(ctx, name)
	if err != nil {
		return err
	}
	s.packages[name] = p
	return p.Files.Walk(func(file string, n *tree.Node) error {
		c := *n
		if n.Mode.IsDir() {
			c = *tree.Dir(n.Mode.Perm() | n.Mode&(fs.ModeSticky|fs.ModeSetgid))
			c.UID, c.GID = n.UID, n.GID
		}
		return s.files.Add(file, &c)
	})
}

// Provide adds the package that has a missing library or interpreter, looked for
// among what the set's packages depend on. It reports whether the file is there now; an
// error is of a package that could not be looked into.
func (s *Set) Provide(ctx context.Context, missing *elfinfo.MissingError) (bool, error) {
	soname := path.Base(missing.Name)
	// Most libraries are in the package that their name makes, however deep among the
	// dependencies: it is asked for before all those nearer are fetched to look into.
	if ok, err := s.ProvideByName(ctx, soname); ok && err == nil {
		return true, nil
	}
	tried := map[string]bool{}
	var last error
	look := func(alts []string) bool {
		ok, err := s.try(ctx, alts, soname)
		var none *noPackageError
		if err != nil && !errors.As(err, &none) {
			last = err
		}
		return ok
	}
	for range 4 { // how far down the dependencies to look
		todo := s.dependencies(soname, tried)
		var unknown [][]string
		for _, alts := range todo {
			i := slices.IndexFunc(alts, func(name string) bool { return s.f.knows(ctx, name) })
			if i < 0 {
				unknown = append(unknown, alts)
			} else if look(alts[i : i+1]) {
				return true, nil
			}
		}
		// Virtual packages and such as are gone; or apt's lists are missing or old, which is
		// found out last, as asking for one fetches new lists.
		for _, alts := range unknown {
			if s.f.resolved == nil && look(alts) {
				return true, nil
			}
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	return false, last
}

// dependencies are those of the set's packages that may have a library, each with its
// alternatives, of which the set has none, and have not been tried, the ones most like the
// library's name first.
func (s *Set) dependencies(soname string, tried map[string]bool) (todo [][]string) {
	for _, p := range s.packages {
		for _, alts := range p.Choices {
			alts = slices.DeleteFunc(slices.Clone(alts), func(name string) bool { return !isLibrary(name) })
			key := strings.Join(alts, "|")
			if len(alts) > 0 && !tried[key] && !slices.ContainsFunc(alts, func(name string) bool { return s.packages[name] != nil }) {
				tried[key] = true
				todo = append(todo, alts)
			}
		}
	}
	slices.SortFunc(todo, func(a, b []string) int {
		return cmp.Or(likeness(b[0], soname)-likeness(a[0], soname), slices.Compare(a, b))
	})
	return todo
}

// try adds the first package that can be had, unless the set has it, and looks for a library
// in it.
func (s *Set) try(ctx context.Context, names []string, soname string) (ok bool, err error) {
	for _, name := range names {
		if s.packages[name] != nil {
			return false, nil
		}
		if err = s.add(ctx, name); err == nil {
			return s.has(soname), nil
		}
	}
	return false, err
}

// ProvideByName adds the package that a library's name makes, if it is not there yet, and
// reports whether that has brought the library. That there is no such package is no error.
func (s *Set) ProvideByName(ctx context.Context, soname string) (bool, error) {
	name := policyName(soname)
	if !isLibrary(name) || !validName.MatchString(name) || s.packages[name] != nil || !s.f.knows(ctx, name) {
		return false, nil
	}
	if err := s.add(ctx, name); err != nil {
		return false, err
	}
	return s.has(soname), nil
}

func (s *Set) has(base string) (found bool) {
	s.files.Walk(func(name string, _ *tree.Node) error {
		found = found || path.Base(name) == base
		return nil
	})
	return found
}

// isLibrary says whether a package may hold a library, by Debian's naming.
func isLibrary(name string) bool {
	return strings.HasPrefix(name, "lib") || strings.Contains(name, "-lib") || name == "zlib1g" || name == "musl" // ocl-icd-libopencl1
}

// policyName is what Debian's policy 8.1 makes of a soname: libfoo.so.1 is in libfoo1,
// libfoo2.so.1 in libfoo2-1.
func policyName(soname string) string {
	switch {
	case soname == "libz.so.1":
		return "zlib1g" // older than the policy
	case strings.HasPrefix(soname, "ld-linux"):
		return "libc6" // the interpreter
	}
	want := strings.ToLower(soname)
	lib, version, _ := strings.Cut(want, ".so")
	version = strings.TrimPrefix(version, ".")
	if n := len(lib); n > 0 && lib[n-1] >= '0' && lib[n-1] <= '9' {
		lib += "-"
	}
	return strings.ReplaceAll(lib+version, "_", "-")
}

// likeness is how many first letters a package's name shares with the name that a soname
// makes.
func likeness(pkg, soname string) int {
	want := policyName(soname)
	n := 0
	for n < len(pkg) && n < len(want) && pkg[n] == want[n] {
		n++
	}
	return n
}
