// Package linuxguest boots Debian's cloud kernel with a root of the caller's in QEMU:
// the oracle of the conformance tests and the other column of the benchmark.
//
// The kernel is the linux-image-cloud-amd64 package that apt offers, unpacked, never
// installed, and kept in build/linux. The root is an initramfs; process 1 is
// tests/linuxguest/init.
package linuxguest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"kiln/capstan/deb"
	"kiln/capstan/tree"
	"kiln/tests/linuxguest/spec"
	"kiln/tests/vmtest"
)

// Kernel is an unpacked kernel package.
type Kernel struct {
	Version string // uname -r
	Vmlinuz string // file on the host
	files   *tree.Tree
}

// Get fetches the kernel, or takes it from the cache.
func Get(ctx context.Context) (*Kernel, error) {
	root, err := vmtest.Root()
	if err != nil {
		return nil, err
	}
	f := &deb.Fetcher{Dir: filepath.Join(root, "build", "linux")}
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return nil, err
	}
	meta, err := f.Get(ctx, "linux-image-cloud-amd64")
	if err != nil {
		return nil, err
	}
	for _, d := range meta.Depends() {
		if !strings.HasPrefix(d, "linux-image-") {
			continue
		}
		p, err := f.Get(ctx, d)
		if err != nil {
			return nil, err
		}
		k := &Kernel{Version: strings.TrimPrefix(d, "linux-image-"), files: p.Files}
		return k, k.extract(f.Dir)
	}
	return nil, fmt.Errorf("linux-image-cloud-amd64 %s depends on no kernel", meta.Version)
}

func (k *Kernel) extract(dir string) error {
	k.Vmlinuz = filepath.Join(dir, "vmlinuz-"+k.Version)
	n, err := k.files.Lstat("/boot/vmlinuz-" + k.Version)
	if err != nil {
		return err
	}
	b, err := n.ReadAll()
	if err != nil {
		return err
	}
	return os.WriteFile(k.Vmlinuz, b, 0o644)
}

// VirtioNet are the modules that virtio-net over PCI needs, in load order. Those
// that the kernel has built in are skipped by Run.
var VirtioNet = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "failover", "net_failover", "virtio_net"}

// Guest is one run.
type Guest struct {
	Kernel  *Kernel
	Root    *tree.Tree // what the program needs; nil: nothing but Files
	Files   map[string]string
	Modules []string
	Spec    spec.Spec
	// Append is added to the kernel's command line.
	Append string
	// Args are QEMU's arguments besides -kernel, -initrd and -append: the machine,
	// memory, devices, -display and -serial.
	Args []string
}

// QEMU makes the initramfs in dir and returns the whole command line.
func (g *Guest) QEMU(dir string) ([]string, error) {
	recs, err := g.records()
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(dir, "initramfs")
	f, err := os.Create(initrd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := writeAll(cpio.Newc.Writer(f), recs); err != nil {
		return nil, err
	}
	j, err := json.Marshal(&g.Spec)
	if err != nil {
		return nil, err
	}
	cmdline := "console=ttyS0 quiet loglevel=0 no_timer_check panic=-1 mitigations=off kilnguest.prog=" + base64.StdEncoding.EncodeToString(j)
	if g.Append != "" {
		cmdline += " " + g.Append
	}
	return append([]string{"-kernel", g.Kernel.Vmlinuz, "-initrd", initrd, "-append", cmdline, "-no-reboot"}, g.Args...), nil
}

// Run boots and returns the console when the guest has powered off.
func (g *Guest) Run(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "linuxguest")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	args, err := g.QEMU(dir)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return strings.ReplaceAll(out.String(), "\r\n", "\n"), err
}

func (g *Guest) records() ([]cpio.Record, error) {
	recs := []cpio.Record{cpio.Directory("dev", 0o755), cpio.Directory("tmp", 0o777), cpio.Directory("proc", 0o755), cpio.Directory("sys", 0o755), cpio.Directory("run", 0o755)}
	recs = append(recs, cpio.CharDev("dev/console", 0o600, 5, 1))
	init, err := buildInit()
	if err != nil {
		return nil, err
	}
	recs = append(recs, cpio.StaticFile("init", string(init), 0o755))
	g.Spec.Modules = nil
	for _, m := range g.Modules {
		name, data, err := g.Kernel.module(m)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		name = "kilnmod/" + name
		recs = append(recs, cpio.StaticFile(name, string(data), 0o644))
		g.Spec.Modules = append(g.Spec.Modules, "/"+name)
	}
	for name, data := range g.Files {
		recs = append(recs, cpio.StaticFile(strings.TrimPrefix(name, "/"), data, 0o755))
	}
	if g.Root != nil {
		more, err := treeRecords(g.Root)
		if err != nil {
			return nil, err
		}
		recs = append(recs, more...)
	}
	return recs, nil
}

// module finds a module's file; nil data means that it is built in.
func (k *Kernel) module(name string) (string, []byte, error) {
	var file string
	err := k.files.Walk(func(p string, n *tree.Node) error {
		if path.Base(p) == name+".ko" {
			file = p
		}
		return nil
	})
	if err != nil || file == "" {
		return "", nil, err
	}
	n, err := k.files.Lstat(file)
	if err != nil {
		return "", nil, err
	}
	b, err := n.ReadAll()
	return path.Base(file), b, err
}

func treeRecords(t *tree.Tree) ([]cpio.Record, error) {
	var recs []cpio.Record
	err := t.Walk(func(p string, n *tree.Node) error {
		name := strings.TrimPrefix(p, "/")
		if name == "" {
			return nil
		}
		perm := uint64(n.Mode.Perm())
		switch n.Mode.Type() {
		case 0:
			b, err := n.ReadAll()
			if err != nil {
				return err
			}
			recs = append(recs, cpio.StaticFile(name, string(b), perm))
		case fs.ModeSymlink:
			recs = append(recs, cpio.Symlink(name, n.Link))
		case fs.ModeDir:
			recs = append(recs, cpio.Directory(name, perm))
		}
		return nil
	})
	return recs, err
}

// buildInit compiles process 1; the build cache makes it cheap.
func buildInit() ([]byte, error) {
	root, err := vmtest.Root()
	if err != nil {
		return nil, err
	}
	out := filepath.Join(root, "build", "linux", "init")
	cmd := exec.Command("go", "build", "-o", out, "./tests/linuxguest/init")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building init: %w\n%s", err, msg)
	}
	return os.ReadFile(out)
}

// writeAll writes the records with the directories above them and the trailer.
func writeAll(w cpio.RecordWriter, recs []cpio.Record) error {
	seen := map[string]bool{}
	var mkdirs func(name string) error
	mkdirs = func(name string) error {
		d := path.Dir(name)
		if d == "." || seen[d] {
			return nil
		}
		seen[d] = true
		if err := mkdirs(d); err != nil {
			return err
		}
		return w.WriteRecord(cpio.Directory(d, 0o755))
	}
	for _, r := range recs {
		if seen[r.Name] {
			continue
		}
		seen[r.Name] = true
		if err := mkdirs(r.Name); err != nil {
			return err
		}
		if err := w.WriteRecord(r); err != nil {
			return err
		}
	}
	return cpio.WriteTrailer(w)
}
