package bake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"kiln/capstan/deb"
	"kiln/capstan/manifest"
	"kiln/capstan/scratch"
	"kiln/capstan/tree"
)

// Where a build's root has the source, and what it has made.
const (
	buildDir = "/build"
	destDir  = "/dest"
)

// sandbox runs a script ($2) in a root ($1) of which nothing is seen of this machine but
// /proc and the harmless devices, in namespaces without a network. The umask is not that of
// who bakes: the modes of what is made are the image's.
const sandbox = `set -e
umask 022
mount --rbind /proc "$1/proc"
for d in null zero full random urandom; do : >>"$1/dev/$d"; mount --bind "/dev/$d" "$1/dev/$d"; done
exec chroot "$1" /bin/sh -ec "cd ` + buildDir + `
$2"`

// notForBuilds are the parts of packages that no compiler reads.
var notForBuilds = []string{"./usr/share/doc", "./usr/share/man", "./usr/share/info", "./usr/share/locale", "./usr/share/lintian"}

// buildDebian runs a manifest's build in a root of Debian packages and gives what it left
// in $DESTDIR. The result is kept for the same packages, source and commands.
func buildDebian(ctx context.Context, o *Options, m *manifest.Manifest) (tree.Source, error) {
	f := &deb.Fetcher{Dir: filepath.Join(o.Cache, "debs"), Log: o.Log}
	// The shell and what every script uses; Debian builds have them without naming them.
	debs, err := f.Closure(ctx, append([]string{"dash", "coreutils"}, m.Build.Packages...))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be built: %w", m.Name, err)
	}
	key, err := buildKey(m, debs)
	if err != nil {
		return nil, fmt.Errorf("the source of %s cannot be read: %w", m.Name, err)
	}
	kept := filepath.Join(o.Cache, "builds", key)
	if _, err := os.Stat(kept); err == nil {
		return tree.HostSource{Dir: kept}, nil
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return nil, fmt.Errorf("the cache of builds cannot be made: %w", err)
	}
	root, removeRoot, err := scratch.Make(filepath.Dir(kept), ".root-")
	if err != nil {
		return nil, fmt.Errorf("the cache of builds cannot be written: %w", err)
	}
	defer removeRoot()
	o.log("unpacking %d packages to build %s", len(debs), m.Name)
	if err := buildRoot(ctx, root, debs); err != nil {
		return nil, err
	}
	if m.Build.From != "" {
		if err := copySource(filepath.Join(root, buildDir), m.Dir, m.Build.From); err != nil {
			return nil, fmt.Errorf("the source of %s cannot be copied: %w", m.Name, err)
		}
	}
	o.log("building %s", m.Name)
	if err := runBuild(ctx, root, m); err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(root, destDir), kept); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err // another pack may have built the same meanwhile
	}
	return tree.HostSource{Dir: kept}, nil
}

// buildKey names a build by all that goes into it.
func buildKey(m *manifest.Manifest, debs []string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "2\n%q\n%q\n%q\n", sandbox, buildEnv(), m.Build.Run)
	for _, d := range debs {
		fmt.Fprintln(h, filepath.Base(d))
	}
	if m.Build.From != "" {
		err := walkBeside(m.Dir, m.Build.From, nil, func(rel string, n *tree.Node) error {
			fmt.Fprintf(h, "%q %o %q %d\n", rel, n.Mode, n.Link, n.Size)
			if !n.Mode.IsRegular() {
				return nil
			}
			b, err := n.ReadAll()
			h.Write(b)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s-%.12x", m.Name, h.Sum(nil)), nil
}

// buildEnv is a build's whole environment.
func buildEnv() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + buildDir, "TMPDIR=/tmp", "LC_ALL=C.UTF-8", "TZ=UTC",
		"DESTDIR=" + destDir, "SOURCE_DATE_EPOCH=" + strconv.Itoa(tree.Epoch)}
}

// buildRoot unpacks packages into an empty folder, as they are before they are configured.
func buildRoot(ctx context.Context, root string, debs []string) error {
	for _, d := range []string{buildDir, destDir, "/proc", "/dev", "/tmp", "/etc", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64"} {
		if err := makeDir(filepath.Join(root, d)); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+d, filepath.Join(root, d)); err != nil {
			return err
		}
	}
	// dpkg-deb alone would put a folder in the place of those links.
	script := `root=$1 exclude=$2; shift 2
for d; do dpkg-deb --fsys-tarfile "$d" | tar -xp -C "$root" --keep-directory-symlink --no-same-owner $exclude || exit; done`
	var exclude []string
	for _, d := range notForBuilds {
		exclude = append(exclude, "--exclude="+d)
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", root, strings.Join(exclude, " ")}, debs...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the packages for a build cannot be unpacked: %s (%w)", words(out), err)
	}
	return nil
}

// runBuild runs the commands, as root of a user namespace where pack is not root.
func runBuild(ctx context.Context, root string, m *manifest.Manifest) error {
	args := []string{"--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child"}
	if os.Getuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	if out, err := exec.CommandContext(ctx, "unshare", append(args, "true")...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s is built in namespaces of its own, and this machine gives pack none: %s (%w); bake as root, or where users may make namespaces", m.Name, words(out), err)
	}
	cmd := exec.CommandContext(ctx, "unshare", append(args, "sh", "-c", sandbox, "sh", root, m.Build.Run)...)
	cmd.Env = buildEnv()
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s does not build (%w):\n%s", m.Name, err, lastLines(text.String(), 30))
	}
	return nil
}

func words(out []byte) string { return strings.Join(strings.Fields(string(out)), " ") }

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// built puts what a build has made into the root.
func (b *builder) built(src tree.Source) error {
	return b.out.CopyTree(src, "/", func(_ string, n *tree.Node) bool {
		n.MTime = tree.Epoch // the build's own times differ from one to the next
		return true
	})
}
