package bake

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"kiln/capstan/manifest"
	"kiln/capstan/tree"
	"kiln/kernel/image"
)

// maxImage bounds what a container image unpacks to.
const maxImage = 4 << 30

// FromOCI gathers the image of a container image: an OCI layout's folder, a file of
// `docker save`, or a reference that a registry has. Program, arguments, environment,
// user, folder and ports are the container's.
func FromOCI(ctx context.Context, ref, program string, o *Options) (*Image, error) {
	img, err := openOCI(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("the container image %s has no configuration: %w", ref, err)
	}
	if cfg.OS != "" && cfg.OS != "linux" || cfg.Architecture != "" && cfg.Architecture != "amd64" {
		return nil, fmt.Errorf("the container image %s is for %s/%s, and Kiln runs linux/amd64: choose that platform", ref, cfg.OS, cfg.Architecture)
	}
	root, err := unpack(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("the container image %s cannot be unpacked: %w", ref, err)
	}
	return fromContainer(ctx, ociName(ref), root, &cfg.Config, program, o)
}

// unpack lays the layers over each other, the lowest first: a hard link is to what is there
// when its layer is unpacked, and a path leads through the links of the layers below.
// (mutate.Extract gives the uppermost first.)
func unpack(ctx context.Context, img v1.Image) (*tree.Tree, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	root := tree.New()
	for _, l := range layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := addLayer(root, l); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func addLayer(root *tree.Tree, l v1.Layer) error {
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := root.AddLayer(tar.NewReader(r), maxImage); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r) // its digest is checked at the end
	return err
}

func openOCI(ctx context.Context, ref string, o *Options) (v1.Image, error) {
	fi, err := os.Stat(ref)
	switch {
	case err == nil && fi.IsDir():
		return layoutImage(ref)
	case err == nil:
		img, err := tarball.ImageFromPath(ref, nil)
		if err != nil {
			return nil, fmt.Errorf("%s is no container image of one program (a file that `docker save` makes): %w", ref, err)
		}
		return img, nil
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("oci:%s is neither a folder, nor a file, nor a reference to a registry: write it as oci:NAME:TAG", ref)
	}
	o.log("fetching the container image %s", r.Name())
	img, err := remote.Image(r, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil {
		return nil, fmt.Errorf("the container image %s cannot be fetched: %w", r.Name(), err)
	}
	return img, nil
}

// layoutImage is the one image of a layout, or the one for linux/amd64.
func layoutImage(dir string) (v1.Image, error) {
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%s is no OCI layout (%w): give a folder with an index.json", dir, err)
	}
	return pick(idx, dir)
}

func pick(idx v1.ImageIndex, dir string) (v1.Image, error) {
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("the OCI layout %s is damaged: %w", dir, err)
	}
	var found []v1.Image
	for _, d := range m.Manifests {
		if d.Platform != nil && d.Platform.Architecture != "" && (d.Platform.OS != "linux" || d.Platform.Architecture != "amd64") {
			continue
		}
		if d.MediaType.IsIndex() {
			sub, err := idx.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if img, err := pick(sub, dir); err == nil {
				found = append(found, img)
			}
			continue
		}
		img, err := idx.Image(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("the OCI layout %s is damaged: %w", dir, err)
		}
		found = append(found, img)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("the OCI layout %s has %d images for linux/amd64, expected one", dir, len(found))
	}
	return found[0], nil
}

// ociName is a name for the image: the last part of the reference without its tag.
func ociName(ref string) string {
	base := strings.TrimSuffix(path.Base(filepath.ToSlash(ref)), ".tar")
	base, _, _ = strings.Cut(base, "@")
	base, _, _ = strings.Cut(base, ":")
	return base
}

func fromContainer(ctx context.Context, name string, root *tree.Tree, c *v1.Config, program string, o *Options) (*Image, error) {
	args := append(append([]string{}, c.Entrypoint...), c.Cmd...)
	env := map[string]string{}
	for _, e := range c.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	if program != "" {
		args = []string{program}
	}
	if len(args) == 0 {
		return nil, fmt.Errorf("the container image %s names no program: give one with --program", name)
	}
	environ := manifest.Environment(env)
	prog, err := lookPath(root, args[0], environ, c.WorkingDir)
	if err != nil {
		return nil, err
	}
	img, err := fromRoot(ctx, root, manifest.Executable{Path: prog, LibraryPath: env["LD_LIBRARY_PATH"]}, o)
	if err != nil {
		return nil, err
	}
	if _, n, _, err := tree.Resolve(img.Root, c.WorkingDir); err != nil { // who runs containers makes it
		if err := img.Root.Add(c.WorkingDir, tree.Dir(0o755)); err != nil {
			return nil, err
		}
	} else if !n.Mode.IsDir() {
		return nil, fmt.Errorf("the container image %s starts in %s, which is no folder", name, c.WorkingDir)
	}
	img.Config = &image.Config{Version: image.ConfigVersion, Name: name, Program: prog, Args: args, Env: environ,
		WorkDir: c.WorkingDir, Hostname: hostname(name), Ports: ports(c)}
	img.Config.UID, img.Config.GID, err = account(img.Root, c.User)
	return img, err
}

// lookPath finds a program as execvp(3) would.
func lookPath(root tree.Source, prog string, env []string, dir string) (string, error) {
	if strings.Contains(prog, "/") {
		if !path.IsAbs(prog) {
			prog = path.Join("/", dir, prog)
		}
		return prog, nil
	}
	for _, e := range env {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, d := range strings.Split(list, ":") {
			p := path.Join(d, prog)
			if _, n, _, err := tree.Resolve(root, p); err == nil && n.Mode.IsRegular() && n.Mode&0o111 != 0 {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("the container image has no program %s in its PATH: give one with --program", prog)
}

func ports(c *v1.Config) (out []int) {
	for p := range c.ExposedPorts {
		num, proto, _ := strings.Cut(p, "/")
		if n, err := strconv.Atoi(num); err == nil && n > 0 && n < 65536 && (proto == "" || proto == "tcp") {
			out = append(out, n)
		}
	}
	sort.Ints(out)
	return out
}

// account reads USER[:GROUP], by name or number, with the root's own accounts.
func account(root tree.Source, user string) (uid, gid uint32, err error) {
	if user == "" {
		return 0, 0, nil
	}
	u, g, hasGroup := strings.Cut(user, ":")
	uid, gid, err = lookup(root, "/etc/passwd", u)
	if err == nil && hasGroup {
		gid, _, err = lookup(root, "/etc/group", g)
	}
	return uid, gid, err
}

// lookup finds a name or number in a file of colon-separated fields and gives its third
// and fourth as numbers.
func lookup(root tree.Source, file, who string) (id, second uint32, err error) {
	num, numErr := strconv.ParseUint(who, 10, 32)
	_, n, _, err := tree.Resolve(root, file)
	if err == nil {
		b, err := n.ReadAll()
		if err != nil {
			return 0, 0, err
		}
		for _, line := range strings.Split(string(b), "\n") {
			f := strings.Split(line, ":")
			if len(f) < 4 || f[0] != who && (numErr != nil || f[2] != who) {
				continue
			}
			a, err1 := strconv.ParseUint(f[2], 10, 32)
			g, _ := strconv.ParseUint(f[3], 10, 32)
			if err1 == nil {
				return uint32(a), uint32(g), nil
			}
		}
	}
	if numErr != nil {
		return 0, 0, errors.New("the container image runs as " + who + ", whom its " + file + " does not know")
	}
	return uint32(num), 0, nil
}
