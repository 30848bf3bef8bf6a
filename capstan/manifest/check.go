package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"kiln/capstan/erofs"
	"kiln/kernel/image"
)

var (
	validName    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._+-]*$`)
	validPackage = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)                         // Debian policy 5.6.7
	validUser    = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]*\$?$`)                  // useradd(8)
	validHost    = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?$`) // hostname(7)
	validTmpfs   = regexp.MustCompile(`^((size|nr_blocks|nr_inodes)=[0-9]+[kKmMgG%]?|mode=[0-7]+|[ug]id=[0-9]+)$`)
)

// bad is a mistake in a manifest.
func bad(format string, args ...any) error {
	return fmt.Errorf("the manifest is not right: "+format, args...)
}

// check finds what would make no image, or one whose kernel would refuse to start.
func (m *Manifest) check() error {
	for _, f := range []func() error{m.checkProgram, m.checkProcess, m.checkPrograms, m.checkExecutables, m.checkMachine, m.checkFiles, m.checkSmoke} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manifest) checkProgram() error {
	if !validName.MatchString(m.Name) {
		return bad("name %q must be letters, digits and . _ + -", m.Name)
	}
	if len(m.Programs) == 0 {
		if !path.IsAbs(m.Program) {
			return bad("program %q must be an absolute path in the image", m.Program)
		}
	}
	if err := m.Build.check(); err != nil {
		return bad("build: %w", err)
	}
	if err := checkPackages(m.Packages); err != nil {
		return bad("%w", err)
	}
	return nil
}

// checkExecutables finds paths that only a folder can have: the bake cleans them, and the
// machine does not.
func (m *Manifest) checkExecutables() error {
	for _, x := range m.Executables() {
		if _, last := path.Split(x.Path); last == "" || last == "." || last == ".." {
			return bad("program %q is a folder", x.Path)
		}
	}
	return nil
}

func (b *Build) check() error {
	switch {
	case b == nil:
		return nil
	case (b.Go == "") == (b.Run == ""):
		return errors.New("it must have one of go, a folder, and run, commands")
	case b.Go != "" && (len(b.Packages) > 0 || b.From != ""):
		return errors.New("packages and from are for run, not for go")
	case b.Go != "" && !fs.ValidPath(b.Go):
		return fmt.Errorf("go %q must be a folder beside the manifest", b.Go)
	case b.From != "" && !fs.ValidPath(b.From):
		return fmt.Errorf("from %q must be a folder beside the manifest", b.From)
	case strings.ContainsRune(b.Run, 0):
		return errors.New("run has a zero byte")
	}
	return checkPackages(b.Packages)
}

func checkPackages(names []string) error {
	for _, p := range names {
		if !validPackage.MatchString(p) {
			return fmt.Errorf("packages has %q, which cannot be the name of a Debian package", p)
		}
	}
	return nil
}

// checkProcess looks at what the program starts with.
func (m *Manifest) checkProcess() error {
	if err := checkExec(Exec{Args: m.Args, Argv0: m.Argv0, Env: m.Env, WorkDir: m.WorkDir, Limits: m.Limits}); err != nil {
		return bad("%w", err)
	}
	for _, u := range m.Users {
		if !validUser.MatchString(u.Name) || strings.ContainsAny(u.Home+u.Shell+u.Password, ":\n\x00") {
			return bad("users has %q with the home %q, the shell %q and the password %q, which /etc/passwd cannot hold", u.Name, u.Home, u.Shell, u.Password)
		}
	}
	return nil
}

func checkExec(e Exec) error {
	for _, a := range append([]string{e.Argv0, e.WorkDir}, e.Args...) {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("%q has a zero byte, which no argument can have", a)
		}
	}
	for k, v := range e.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return fmt.Errorf("env has the name %q and value %q, which no environment can have", k, v)
		}
	}
	if e.WorkDir != "" && !path.IsAbs(e.WorkDir) {
		return fmt.Errorf("workdir %q must be an absolute path in the image", e.WorkDir)
	}
	for name, l := range e.Limits {
		if !slices.Contains(image.LimitNames, name) {
			return fmt.Errorf("limits has %q, which is none of %s", name, strings.Join(image.LimitNames, ", "))
		}
		if l.Soft < -1 || l.Hard < -1 || l.Hard >= 0 && (l.Soft < 0 || l.Soft > l.Hard) {
			return fmt.Errorf("limits.%s: soft %d is over hard %d, or less than -1, which is no limit", name, l.Soft, l.Hard)
		}
	}
	return nil
}

// checkMachine looks at what the kernel sets up before the program.
func (m *Manifest) checkMachine() error {
	if m.Memory != "" {
		if _, err := ParseSize(m.Memory); err != nil {
			return bad("memory: %w", err)
		}
	}
	if m.CPUs < 0 || m.CPUs > image.MaxCPUs {
		return bad("cpus: a machine has 1 to %d, not %d", image.MaxCPUs, m.CPUs)
	}
	for _, p := range m.Ports {
		if p < 1 || p > 65535 {
			return bad("port %d is not between 1 and 65535", p)
		}
	}
	if m.Hostname != "" && !validHost.MatchString(m.Hostname) {
		return bad("hostname %q must be up to 64 letters, digits, - and .", m.Hostname)
	}
	for _, err := range []error{image.OneOf("at_exit", m.AtExit, image.AtExits), image.OneOf("log_level", m.LogLevel, image.LogLevels),
		image.OneOf("compress", m.Compress, erofs.Ways),
		image.OneOf("network.mode", m.Network.Mode, []string{"dhcp", "static", "none"})} {
		if err != nil {
			return bad("%w", err)
		}
	}
	for _, mt := range m.Mounts {
		if mt.Type != "tmpfs" {
			return bad("mounts has the type %q: it must be tmpfs", mt.Type)
		}
		if !path.IsAbs(mt.Target) || path.Clean(mt.Target) == "/" {
			return bad("mounts has the target %q: it must be a folder's absolute path", mt.Target)
		}
		for _, own := range []string{"/proc", "/sys"} {
			if t := path.Clean(mt.Target); t == own || strings.HasPrefix(t, own+"/") {
				return bad("mounts has the target %q: the machine mounts its own %s over it", mt.Target, own)
			}
		}
		for _, o := range strings.Split(mt.Options, ",") {
			if o != "" && !validTmpfs.MatchString(o) {
				return bad("mounts: %s has the option %q, which is no option of tmpfs(5): write size=64M", mt.Target, o)
			}
		}
	}
	return m.checkNetwork()
}

func (m *Manifest) checkNetwork() error {
	n := m.Network
	if n.MTU != 0 && (n.MTU < 68 || n.MTU > 65535) {
		return bad("network.mtu %d is not between 68 and 65535", n.MTU)
	}
	for _, d := range n.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			return bad("network.dns %q is not an address", d)
		}
	}
	if n.Mode != "static" {
		if n.Address != "" || n.Gateway != "" {
			return bad("network has an address or a gateway, which only mode static uses")
		}
		return nil
	}
	addr, err := netip.ParsePrefix(n.Address)
	if err != nil {
		return bad("network.address %q is not like 10.0.0.2/24", n.Address)
	}
	if n.Gateway != "" {
		if g, err := netip.ParseAddr(n.Gateway); err != nil || g.Is4() != addr.Addr().Is4() {
			return bad("network.gateway %q is not an address of the same family", n.Gateway)
		}
	}
	return nil
}

func (m *Manifest) checkFiles() error {
	for _, f := range m.Files {
		if err := f.check(); err != nil {
			return bad("files: %w", err)
		}
	}
	return nil
}

func (f File) check() error {
	if f.Package != "" {
		if !validPackage.MatchString(f.Package) {
			return fmt.Errorf("%q cannot be the name of a Debian package", f.Package)
		}
		if f.Optional || f.Mode != nil || f.UID != nil || f.GID != nil {
			return fmt.Errorf("the package %s has optional, mode, uid or gid, which are for single files", f.Package)
		}
		if f.Path == "" {
			f.Path = "/"
		}
	}
	if !path.IsAbs(f.Path) || strings.ContainsRune(f.Path, 0) {
		return fmt.Errorf("path %q must be absolute", f.Path)
	}
	sources := 0
	for _, set := range []bool{f.From != "", f.Text != nil, f.Link != "", f.Dir, f.Package != ""} {
		if set {
			sources++
		}
	}
	if sources > 1 {
		return fmt.Errorf("%s has more than one of from, text, link, dir and package", f.Path)
	}
	if f.From != "" && !fs.ValidPath(f.From) {
		return fmt.Errorf("from %q must be a path beside the manifest", f.From)
	}
	for _, x := range f.Exclude {
		if _, err := path.Match(x, ""); err != nil {
			return fmt.Errorf("exclude %q is no pattern", x)
		}
	}
	if f.Mode != nil && *f.Mode > 0o7777 {
		return fmt.Errorf("%s has the mode %o", f.Path, *f.Mode)
	}
	return nil
}

// The YAML library speaks of Go's types; these are its words.
var (
	reUnknown = regexp.MustCompile(`field (\S+) not found in type \S+`)
	reTwice   = regexp.MustCompile(`mapping key ("[^"]*") already defined at line (\d+)`)
	reType    = regexp.MustCompile("cannot unmarshal !!(\\w+)(?: `([^`]*)`)? into (.+)")
)

// explain puts what the YAML library says into words for who wrote the manifest.
func explain(err error) error {
	lines := strings.Split(strings.TrimPrefix(err.Error(), "yaml: "), "\n")
	if len(lines) > 1 { // "unmarshal errors:" and one a line
		lines = lines[1:]
	}
	for i, l := range lines {
		l = strings.TrimSpace(l)
		l = reUnknown.ReplaceAllString(l, `there is no key "$1"`)
		l = reTwice.ReplaceAllString(l, "the key $1 is there already, in line $2")
		if t := reType.FindStringSubmatchIndex(l); t != nil {
			what := map[string]string{"map": "a mapping", "seq": "a list"}[l[t[2]:t[3]]]
			if t[4] >= 0 {
				what = fmt.Sprintf("%q", l[t[4]:t[5]])
			}
			l = l[:t[0]] + what + " is not " + kindOf(l[t[6]:t[7]])
		}
		lines[i] = l
	}
	return bad("%s", strings.Join(lines, "; "))
}

// kindOf says what a Go type stands for in a manifest.
func kindOf(goType string) string {
	switch t := strings.TrimPrefix(goType, "*"); {
	case strings.HasPrefix(t, "[]"):
		return "a list [in brackets]"
	case strings.HasPrefix(t, "map["), strings.HasPrefix(t, "struct"), strings.HasPrefix(t, "manifest."):
		return "a mapping {key: value}"
	case strings.HasPrefix(t, "uint"):
		return "a whole number from 0 to 4294967295"
	case strings.HasPrefix(t, "int"):
		return "a whole number"
	case t == "bool":
		return "true or false"
	}
	return "a text"
}
