package system

import (
	"cmp"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/rootfs"
	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// etc keeps the files that follow the network's configuration, as long as nobody else
// writes them.
type etc struct {
	lock  mm.SleepLock // over the files' contents and what is noted of them
	files map[string]*etcFile
}

// etcFile is a file of the kernel's.
type etcFile struct {
	image string // what the image has there
	last  string // what is there, unless a program has written it
}

// maxEtc is the most of a file that is looked at; a longer one is let alone.
const maxEtc = 64 << 10

// writeEtc brings the files up to date.
func (s *System) writeEtc() {
	c := wait.Background()
	s.etc.lock.Lock(c)
	defer s.etc.lock.Unlock()
	if err := s.ns.Mkdir(rootfs.Kernel(c, s.ns), "/etc", 0o755); err != nil && err != unix.EEXIST {
		s.log.log("error", "/etc: %v", err)
		return
	}
	for _, err := range []error{
		s.etc.keep(c, s.ns, "/etc/resolv.conf", func(image string) string { return cmp.Or(s.net.ResolvConf(), image) }),
		s.etc.keep(c, s.ns, "/etc/hosts", func(image string) string { return withHosts(image, s.net.Hosts()) }),
		s.etc.keep(c, s.ns, "/etc/hostname", func(string) string { return s.hostname() + "\n" }),
	} {
		if err != nil {
			s.log.log("error", "%v", err)
		}
	}
}

// keep writes a file if its text, which may be made of what the image has there, is
// another than before.
func (e *etc) keep(c wait.Context, ns *vfs.Namespace, name string, text func(image string) string) error {
	now, err := rootfs.ReadFile(c, ns, name, maxEtc)
	missing := errors.Is(err, unix.ENOENT)
	switch {
	case errors.Is(err, unix.EFBIG):
		return nil
	case err != nil && !missing:
		return err
	}
	f := e.files[name]
	if f == nil {
		f = &etcFile{now, now}
		if e.files == nil {
			e.files = map[string]*etcFile{}
		}
		e.files[name] = f
	}
	want := text(f.image)
	if now != f.last || now == want && !missing {
		return nil
	}
	err = rootfs.WriteFile(c, ns, name, want)
	if errors.Is(err, unix.ENOENT) { // a link to what is not there, as systemd-resolved's
		if want == "" {
			return nil // it may come
		}
		if err = ns.Unlink(rootfs.Kernel(c, ns), name, false); err == nil {
			err = rootfs.WriteFile(c, ns, name, want)
		}
	}
	if err == nil {
		f.last = want
	}
	return err
}

// withHosts is the image's hosts(5) and, behind it, those lines of the kernel's whose names
// are not in it.
func withHosts(image, own string) string {
	named := map[string]bool{}
	for line := range strings.Lines(image) {
		line, _, _ = strings.Cut(line, "#")
		for i, w := range strings.Fields(line) {
			named[w] = named[w] || i > 0
		}
	}
	if image != "" && !strings.HasSuffix(image, "\n") {
		image += "\n"
	}
	for line := range strings.Lines(own) {
		there := false
		for _, w := range strings.Fields(line)[1:] {
			there = there || named[w]
		}
		if !there {
			image += line
		}
	}
	return image
}
