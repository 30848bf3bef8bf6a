package bake

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	root, err := unpack(ctx, img, cfg.RootFS.DiffIDs)
	if err != nil {
		return nil, fmt.Errorf("the container image %s cannot be unpacked: %w", ref, err)
	}
	return fromContainer(ctx, ociName(ref), root, &cfg.Config, program, o)
}

// unpack lays the layers over each other, the lowest first: a hard link is to what is there
// when its layer is unpacked, and a path leads through the links of the layers below.
// (mutate.Extract gives the uppermost first.) Their digests are the configuration's, which
// are of what a layer has and not of how it is compressed.
func unpack(ctx context.Context, img v1.Image, digests []v1.Hash) (*tree.Tree, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	if len(layers) != len(digests) {
		return nil, fmt.Errorf("it has %d layers, and its configuration %d", len(layers), len(digests))
	}
	root := tree.New()
	for i, l := range layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := addLayer(root, l, digests[i]); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func addLayer(root *tree.Tree, l v1.Layer, digest v1.Hash) error {
	r, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	t := io.TeeReader(r, h)
	if err := root.AddLayer(tar.NewReader(t), maxImage); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(t, maxImage)); err != nil { // behind the archive's end
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest.Hex {
		return fmt.Errorf("the layer sha256:%s is damaged: what is there has the digest %s", digest.Hex, got)
	}
	return nil
}

func openOCI(ctx context.Context, ref string, o *Options) (v1.Image, error) {
	fi, err := os.Stat(ref)
	switch {
	case err == nil && fi.IsDir():
		return layoutImage(ref)
	case err == nil && !fi.Mode().IsRegular(): // to open it may be to wait
		return nil, fmt.Errorf("%s is neither a folder nor a regular file: give an OCI layout, or a file that `docker save` makes", ref)
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
	if err := onlyFiles(dir); err != nil {
		return nil, fmt.Errorf("the OCI layout %s is damaged: %w", dir, err)
	}
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%s is no OCI layout (%w): give a folder with an index.json", dir, err)
	}
	p := picker{seen: map[v1.Hash]bool{}}
	err = p.index(idx, 0)
	if err == nil && len(p.found) == 1 {
		err = checkConfig(p.found[0])
	}
	if err != nil {
		return nil, fmt.Errorf("the OCI layout %s is damaged: %w", dir, err)
	}
	if len(p.found) != 1 {
		return nil, fmt.Errorf("the OCI layout %s has %d images for linux/amd64, expected one", dir, len(p.found))
	}
	return p.found[0], nil
}

// onlyFiles refuses a folder with something else in it than folders and regular files: to open it may
// be to wait.
func onlyFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := os.Stat(path)
		if err == nil && !fi.IsDir() && !fi.Mode().IsRegular() {
			err = fmt.Errorf("%s is no regular file", path)
		}
		return err
	})
}

// maxIndexes is how deep the indexes of a layout may be in each other; two is common.
const maxIndexes = 4

// picker finds a layout's images for linux/amd64. Neither the layout's reader nor anybody
// else has compared what is there with the digests that lead to it, and one blob may be
// listed in many places.
type picker struct {
	seen  map[v1.Hash]bool
	found []v1.Image
}

func (p *picker) index(idx v1.ImageIndex, depth int) error {
	if depth == maxIndexes {
		return fmt.Errorf("more than %d indexes in each other", maxIndexes)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range m.Manifests {
		if d.Platform != nil && d.Platform.Architecture != "" && (d.Platform.OS != "linux" || d.Platform.Architecture != "amd64") || p.seen[d.Digest] {
			continue
		}
		p.seen[d.Digest] = true
		if d.MediaType.IsIndex() {
			sub, err := idx.ImageIndex(d.Digest)
			if err == nil {
				err = checkDigest(sub, d.Digest)
			}
			if err == nil {
				err = p.index(sub, depth+1)
			}
			if err != nil {
				return err
			}
			continue
		}
		img, err := idx.Image(d.Digest)
		if err == nil {
			err = checkDigest(img, d.Digest)
		}
		if err != nil {
			return err
		}
		p.found = append(p.found, img)
	}
	return nil
}

// checkDigest compares a manifest, of an image or of an index, with what it is called.
func checkDigest(x interface{ Digest() (v1.Hash, error) }, want v1.Hash) error {
	got, err := x.Digest()
	if err == nil && got != want {
		err = fmt.Errorf("%s has the digest %s", want, got)
	}
	return err
}

func checkConfig(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	got, err := img.ConfigName()
	if err == nil && got != m.Config.Digest {
		err = fmt.Errorf("%s has the digest %s", m.Config.Digest, got)
	}
	return err
}

// ociName is a name for the image: the last part of the reference without its tag.
func ociName(ref string) string {
	if abs, err := filepath.Abs(ref); err == nil { // "." has a name, too
		ref = abs
	}
	base := strings.TrimSuffix(filepath.Base(ref), ".tar")
	base, _, _ = strings.Cut(base, "@")
	base, _, _ = strings.Cut(base, ":")
	return cmp.Or(strings.Trim(base, "./"), "image")
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
	prog, err := lookPath(root, args[0], cmp.Or(env["PATH"], manifest.DefaultPath), c.WorkingDir)
	if err != nil {
		return nil, err
	}
	img, err := fromRoot(ctx, root, manifest.Executable{Path: prog, LibraryPath: env["LD_LIBRARY_PATH"], SearchPath: env["PATH"]}, o)
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
func lookPath(root tree.Source, prog, search, dir string) (string, error) {
	if strings.Contains(prog, "/") {
		if !path.IsAbs(prog) {
			prog = path.Join("/", dir, prog)
		}
		return prog, nil
	}
	if p := inPath(root, prog, search); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("the container image has no program %s in its PATH: give one with --program", prog)
}

// inPath is where a program is in the folders of a PATH, "" if it is in none.
func inPath(root tree.Source, prog, search string) string {
	for _, d := range strings.Split(search, ":") {
		p := path.Join(d, prog)
		if _, n, _, err := tree.Resolve(root, p); err == nil && n.Mode.IsRegular() && n.Mode&0o111 != 0 {
			return p
		}
	}
	return ""
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
