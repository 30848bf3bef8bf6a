package system

import (
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/rootfs"
	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

func TestTheImagesHostsStayAndTheMachinesAreAdded(t *testing.T) {
	const localhost = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	const own = localhost + "10.0.2.15\tkiln\n"
	for _, c := range [][2]string{
		{"", own},
		{localhost, own},
		{"10.0.0.5 db", "10.0.0.5 db\n" + own},
		{"10.0.0.5 db # kiln\n", "10.0.0.5 db # kiln\n" + own},
		{"127.0.0.1 localhost\n", "127.0.0.1 localhost\n10.0.2.15\tkiln\n"},
		{localhost + "127.0.1.1 kiln.example.org kiln\n", localhost + "127.0.1.1 kiln.example.org kiln\n"},
	} {
		if got := withHosts(c[0], own); got != c[1] {
			t.Errorf("%q becomes %q, want %q", c[0], got, c[1])
		}
	}
}

func TestFilesThatFollowTheNetworkAreTheProgramsOnceItHasWrittenThem(t *testing.T) {
	c := wait.Background()
	root, err := tmpfs.New(mm.NewMemory(fake.New(4096)), "")
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(root, "tmpfs", 0)
	write := func(name, text string) {
		t.Helper()
		if err := rootfs.WriteFile(c, ns, name, text); err != nil {
			t.Fatal(err)
		}
	}
	var e etc
	keep := func(name, text, want string) {
		t.Helper()
		if err := e.keep(c, ns, name, func(image string) string { return image + text }); err != nil {
			t.Fatal(err)
		}
		if got, err := rootfs.ReadFile(c, ns, name, 100); got != want || err != nil {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	write("/image", "from the image\n")
	keep("/image", "a\n", "from the image\na\n")
	keep("/image", "b\n", "from the image\nb\n")
	write("/image", "from a program\n")
	keep("/image", "c\n", "from a program\n")

	keep("/missing", "", "")
	keep("/missing", "a\n", "a\n")

	if err := ns.Symlink(rootfs.Kernel(c, ns), "../run/systemd/resolve/stub-resolv.conf", "/dangling"); err != nil {
		t.Fatal(err)
	}
	if err := e.keep(c, ns, "/dangling", func(string) string { return "" }); err != nil {
		t.Error(err)
	}
	if _, err := ns.Readlink(rootfs.Kernel(c, ns), "/dangling"); err != nil {
		t.Errorf("the link goes before there is anything to tell: %v", err)
	}
	keep("/dangling", "a\n", "a\n")
	keep("/dangling", "b\n", "b\n")

	long := string(make([]byte, maxEtc+1))
	write("/long", long)
	if err := e.keep(c, ns, "/long", func(string) string { return "" }); err != nil {
		t.Error(err)
	}
	if got, err := rootfs.ReadFile(c, ns, "/long", maxEtc+1); got != long || err != nil {
		t.Errorf("the long one has %d bytes, %v", len(got), err)
	}
	if err := ns.Mkdir(rootfs.Kernel(c, ns), "/folder", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := rootfs.ReadFile(c, ns, "/folder", 100); err == nil || err.Error() != "/folder: "+unix.EINVAL.Error() {
		t.Errorf("a folder is read: %v", err)
	}
}
