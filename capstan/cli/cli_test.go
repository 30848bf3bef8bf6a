package cli

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kiln/capstan/bake/baketest"
	"kiln/capstan/elfinfo/elftest"
	"kiln/capstan/vmm"
	"kiln/capstan/vmm/vmmtest"
	"kiln/kernel/image"
)

var t0 = time.Unix(1e9, 0)

func TestMain(m *testing.M) {
	vmmtest.Main()
	packMain()
	vmm.ProbeMain()
	os.Exit(m.Run())
}

// pack runs the command in a folder of its own.
func pack(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Main(context.Background(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// static is a program without libraries.
func static() []byte { return elftest.Make(elftest.Spec{Type: elf.ET_EXEC}) }

// Every row of what bad input gets: one sentence on what and what to do, status 1 or 2.
func TestBadInputGetsOneSentenceAndStatus(t *testing.T) {
	baketest.Setup(t)
	dir := t.TempDir()
	t.Chdir(dir)
	good := elftest.Make(elftest.Spec{Needed: []string{"libnone.so.9"}, Interp: "/lib64/ld-linux-x86-64.so.2"})
	write(t, "text", []byte("hello\n"))
	write(t, "prog32", elftest.Make(elftest.Spec{Class: elf.ELFCLASS32}))
	write(t, "arm64", elftest.Make(elftest.Spec{Machine: elf.EM_AARCH64}))
	write(t, "cut", good[:len(good)-30])
	write(t, "nolib", elftest.Make(elftest.Spec{Type: elf.ET_EXEC, Needed: []string{"libnone.so.9"}}))
	write(t, "nointerp", elftest.Make(elftest.Spec{Interp: "/lib64/ld-none.so"}))
	write(t, "good", static())
	// Bytes that a terminal would obey, in a name of a library.
	write(t, "escape", elftest.Make(elftest.Spec{Type: elf.ET_EXEC, Needed: []string{"lib\x1b[31m\xff.so"}}))
	write(t, "nosections", good[:len(good)-1])
	write(t, "dirprog/manifest.yaml", []byte("name: x\nprogram: /etc\n"))
	write(t, "nowhere/manifest.yaml", []byte("name: x\nprogram: /p\nworkdir: /nosuch\nfiles: [{path: /p, from: p, mode: 0755}]\n"))
	write(t, "nowhere/p", static())
	write(t, "script", []byte("#!/usr/bin/python3\n"))
	write(t, "badyaml/manifest.yaml", []byte("name: x\nprogram: /x\nprots: [80]\n"))
	os.MkdirAll("rootdir/bin", 0o755)
	if err := unix.Mkfifo("fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		status int
		want   []string
	}{
		{"./text", 2, []string{"./text is not an ELF file", "pack ls"}},
		{"./script", 2, []string{"is a script", "manifest"}},
		{"./prog32", 2, []string{"32-bit", "amd64"}},
		{"build ./arm64", 2, []string{"64-bit Arm", "amd64"}},
		{"./cut", 2, []string{"truncated", "again"}},
		{"./nosections", 2, []string{"truncated"}},
		{"./escape", 2, []string{"lib\ufffd[31m\ufffd.so"}},
		{"build dirprog", 1, []string{"/etc is a folder"}},
		{"build nowhere", 1, []string{"/nosuch", "dir: true"}},
		{"run -p ::1:8080:80 ./good", 2, []string{"IPv6"}},
		{"run -p 18181:80 -p 18181:81 ./good", 2, []string{"18181 of this machine is forwarded already"}},
		{"./nolib", 2, []string{"libnone.so.9", "install"}},
		{"./nointerp", 2, []string{"/lib64/ld-none.so", "install"}},
		{"run ./nolib", 2, []string{"libnone.so.9"}},
		{"ngnix", 2, []string{`"ngnix"`, "did you mean nginx?", "pack ls"}},
		{"run radis", 2, []string{"did you mean redis?"}},
		{"inspct", 2, []string{"did you mean inspect?"}},
		{"./nosuchfile", 2, []string{"there is no file ./nosuchfile"}},
		{"./good -o /proc/nothing/x.img", 1, []string{"cannot write /proc/nothing/x.img", "-o"}},
		{"./good -o rootdir", 1, []string{"it is a folder", "-o"}},
		{"./good -o /dev/null", 1, []string{"no regular file", "-o"}},
		{"build rootdir", 1, []string{"manifest.yaml", "--program"}},
		{"build rootdir --program /bin/x", 1, []string{"/bin/x"}},
		{"build badyaml", 1, []string{"prots"}},
		{"build", 2, []string{"what to bake", "--help"}},
		{"build a b", 2, []string{`"b"`}},
		{"a b", 2, []string{"one name at a time"}},
		{"--nosuchflag", 2, []string{"nosuchflag", "--help"}},
		{"run", 2, []string{"what to run"}},
		{"run ./good ./good", 2, []string{"put -- before"}},
		{"run -m lots ./good", 2, []string{"lots", "64M"}},
		{"run -c 0 ./good", 2, []string{"-c 0: a machine has 1 to 64 CPUs"}},
		{"run -c 65 ./good", 2, []string{"-c 65: a machine has 1 to 64 CPUs"}},
		{"run -c 1000 ./good", 2, []string{"-c 1000: a machine has 1 to 64 CPUs"}},
		{"run -p 80 ./good", 2, []string{`"80"`, "8080:80"}},
		{"run -e =x ./good", 2, []string{"NAME=VALUE"}},
		{"run --vmm vax ./good", 2, []string{"vax", "microvm"}},
		{"run --accel warp ./good", 2, []string{"warp", "tcg"}},
		{"run --net wet ./good", 2, []string{"wet", "tap:"}},
		{"run -d ./good", 2, []string{"-d is not in this version"}},
		{"run --root moon ./good", 2, []string{"moon"}},
		{"build ./good --program /x", 2, []string{"--program", "--init"}},
		{"run nginx --program /x", 2, []string{"--program", "nginx"}},
		{"build badyaml --program /x", 2, []string{"--program", "badyaml"}},
		{"inspect ./good", 2, []string{"no image", "pack NAME"}},
		{"inspect ./nosuchfile", 2, []string{"cannot be read"}},
		{"export x", 2, []string{"not in this version"}},
		{"build oci:", 1, []string{"oci:NAME:TAG", "folder"}},
		{"build deb:No/Such", 1, []string{"name of a Debian package"}},
		{"--kernel ./text ./good", 1, []string{"not a kernel", "make kernel"}},
		{"--kernel ./nosuchfile ./good", 1, []string{"./nosuchfile", "cannot be read"}},
		{"--kernel ./fifo ./good", 1, []string{"./fifo is no regular file", "make kernel"}},
		{"--kernel ./rootdir ./good", 1, []string{"./rootdir is no regular file"}},
		{"build oci:./fifo", 1, []string{"./fifo is neither a folder nor a regular file", "docker save"}},
	} {
		vmmtest.Install(t, "exit 0")
		status, out, errs := pack(t, strings.Fields(c.args)...)
		if status != c.status || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "pack: ") || out != "" {
			t.Errorf("pack %s: status %d, %q %q", c.args, status, out, errs)
		}
		for _, w := range c.want {
			if !strings.Contains(errs, w) {
				t.Errorf("pack %s: %q does not say %q", c.args, errs, w)
			}
		}
		left, _ := filepath.Glob(filepath.Join(dir, "*.img"))
		hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
		if len(left)+len(hidden) != 0 {
			t.Errorf("pack %s left %v %v behind", c.args, left, hidden)
		}
	}
}

func TestWithoutQEMUAndWithoutAKernelPackSaysSo(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	t.Setenv("PATH", t.TempDir())
	if status, _, errs := pack(t, "run", "./good"); status != 1 || !strings.Contains(errs, "apt install qemu-system-x86") || strings.Count(errs, "\n") != 1 {
		t.Errorf("%d %q", status, errs)
	}
	t.Setenv("KILN_KERNEL", "")
	if status, _, errs := pack(t, "./good"); status != 1 || !strings.Contains(errs, "make kernel") || strings.Count(errs, "\n") != 1 {
		t.Errorf("%d %q", status, errs)
	}
}

func TestTooLittleMemoryIsRefusedWithWhatIsNeeded(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	args := vmmtest.Install(t, "ctl exit 0")
	status, _, errs := pack(t, "run", "-m", "8M", "./good")
	if status != 2 || !strings.Contains(errs, "8.0 MB is too little memory for good, which needs at least") {
		t.Fatalf("%d %q", status, errs)
	}
	// What it says is enough is taken.
	_, need, _ := strings.Cut(strings.TrimSpace(errs), "say -m ")
	if status, _, errs := pack(t, "run", "--quiet", "-m", need, "./good"); status != 0 || errs != "" {
		t.Fatalf("-m %s: %d %q", need, status, errs)
	}
	mb, _ := strconv.Atoi(strings.TrimSuffix(need, "M"))
	if !contains(args(), strconv.Itoa(mb*1024)+"k") {
		t.Errorf("-m %s is not in %q", need, args())
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// config is the configuration of the kernel that the fake QEMU was started with, which
// must still be there, so the plan lists it.
func TestRunGivesTheProgramsStatusAndItsOverrides(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	if status, _, errs := pack(t, "./good", "-o", "good.img"); status != 0 {
		t.Fatal(errs)
	}
	args := vmmtest.Install(t, "print hello;ctl exit 42")
	status, out, errs := pack(t, "run", "--accel", "tcg", "-p", "none", "good.img")
	if status != 42 || out != "hello\n" || errs != "" {
		t.Errorf("%d %q %q", status, out, errs)
	}
	if !contains(args(), "good.img") {
		t.Errorf("an image that needs no change is not booted as it is: %q", args())
	}
	p, err := vmm.Prepare(context.Background(), "good.img", "auto", func(c *image.Config) (bool, error) {
		f := runFlags{env: []string{"HOME=/x", "A=b=c"}, strace: true}
		return f.override(c, []string{"one", "two words"})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f, err := os.Open(p.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, _ := f.Stat()
	img, err := image.Open(f, fi.Size())
	if err != nil {
		t.Fatal(err)
	}
	c := img.Config
	env := strings.Join(c.Env, " ")
	if strings.Join(c.Args, "|") != "good|one|two words" || !c.Strace || strings.Count(env, "HOME=") != 1 || !strings.Contains(env, "HOME=/x ") || !strings.Contains(env, "A=b=c") {
		t.Errorf("%+v", c)
	}
	if img.Header.RootLen == 0 || p.Root != nil {
		t.Errorf("the root is not in the second image: %+v", img.Header)
	}
}

// An image of another version of pack, or one made by hand, may say what no kernel knows.
func TestRunRefusesAConfigurationThatIsNotKnown(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	if status, _, errs := pack(t, "-q", "./good", "-o", "good.img"); status != 0 {
		t.Fatal(errs)
	}
	b, err := os.ReadFile("good.img")
	if err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*image.Config){
		`at_exit "explode" must be`: func(c *image.Config) { c.AtExit = "explode" },
		`log_level "shout" must be`: func(c *image.Config) { c.LogLevel = "shout" },
	} {
		img, err := image.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		k, err := img.ExtractKernel(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		change(img.Config)
		var out bytes.Buffer
		if _, err := image.Write(t.Context(), &out, k, img.Config, nil); err != nil {
			t.Fatal(err)
		}
		write(t, "odd.img", out.Bytes())
		vmmtest.Install(t, "exit 0")
		status, _, errs := pack(t, "run", "odd.img")
		if status != 2 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, key) || !strings.Contains(errs, "odd.img") {
			t.Errorf("status %d, %q", status, errs)
		}
	}
}

// An image is an ELF file without libraries; nothing that has its boot block is baked again.
func TestWhatKilnMadeIsNoProgramToBake(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	if status, _, errs := pack(t, "-q", "./good", "-o", "good.img"); status != 0 {
		t.Fatal(errs)
	}
	b, err := os.ReadFile("good.img")
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) []byte {
		if len(old) != len(new) || !bytes.Contains(b, []byte(old)) {
			t.Fatalf("%q cannot be %q", old, new)
		}
		return bytes.Replace(b, []byte(old), []byte(new), 1)
	}
	version := func(n int) string { return fmt.Sprintf(`{"version":%d,`, n) }
	write(t, "old.img", change(version(image.ConfigVersion), version(9)))
	write(t, "damaged.img", change(image.HeaderMagic, "KILNIMG?"))
	write(t, "cut.img", b[:len(b)-4096])
	write(t, "kernel", baketest.Kernel())
	for name, want := range map[string]string{
		"old.img": "version 9", "damaged.img": "damaged", "cut.img": "truncated", "kernel": "bare kernel",
	} {
		for _, args := range [][]string{{"run", name}, {"run", "./" + name}, {name}, {"build", "./" + name}} {
			vmmtest.Install(t, "exit 0")
			status, _, errs := pack(t, args...)
			if status != 2 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, name) || !strings.Contains(errs, want) {
				t.Errorf("pack %v: %d %q", args, status, errs)
			}
		}
	}
	for flag, want := range map[string]string{"--program=/x": "--init", "--kernel=kernel": "bake it again", "--compress=lz4": "bake it again", "--no-host": "bake it again"} {
		if status, _, errs := pack(t, "run", flag, "good.img"); status != 2 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("pack run %s: %d %q", flag, status, errs)
		}
	}
	for _, args := range [][]string{{"good.img"}, {"build", "./good.img"}} {
		if status, _, errs := pack(t, args...); status != 2 || !strings.Contains(errs, "is an image already: `pack run "+args[len(args)-1]+"`") {
			t.Errorf("pack %v: %d %q", args, status, errs)
		}
	}
}

// The names are those that QEMU's arguments and JSON cannot carry as they are.
func TestALargeRootGoesToADisk(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	const name = "b,\xffg.img"
	tmp := filepath.Join(t.TempDir(), "a,b=\xff")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	write(t, "root/bin/good", static())
	write(t, "root/data", make([]byte, 33<<20))
	if status, _, errs := pack(t, "build", "root", "--program", "/bin/good", "--compress", "none", "-o", name); status != 0 {
		t.Fatal(errs)
	}
	for _, c := range []struct {
		root string
		disk bool
	}{{"auto", true}, {"memory", false}} {
		args := vmmtest.Install(t, "ctl exit 0")
		if status, _, errs := pack(t, "run", "-q", "--accel", "tcg", "--root", c.root, name); status != 0 {
			t.Fatal(errs)
		}
		all := strings.Join(args(), " ")
		if strings.Contains(all, "serial=kiln-root") != c.disk || strings.Contains(all, "-kernel "+name) == c.disk {
			t.Errorf("--root %s: %q", c.root, all)
		}
		if !c.disk {
			continue
		}
		// The disk is the part of the image's file where the root is.
		_, dev, _ := strings.Cut(all, " -blockdev ")
		var off, size int64
		if _, err := fmt.Sscanf(dev, "driver=raw,node-name=root,read-only=on,offset=%d,size=%d,file.driver=file,file.read-only=on,", &off, &size); err != nil {
			t.Fatalf("%q: %v", dev, err)
		}
		_, file, _ := strings.Cut(dev, ",file.filename=")
		file, _, _ = strings.Cut(file, " -device ")
		b, err := os.ReadFile(strings.ReplaceAll(file, ",,", ","))
		if err != nil || strings.Count(file, ",") != 2 {
			t.Fatalf("%q: %v", file, err)
		}
		if off%4096 != 0 || off+size > int64(len(b)) || !bytes.Equal(b[off+1024:][:4], []byte{0xe2, 0xe1, 0xf5, 0xe0}) {
			t.Errorf("no root at %d of %q", off, file)
		}
	}
}

func TestPortsOfTheImageAreForwarded(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "web/prog", static())
	write(t, "web/manifest.yaml", []byte("name: web\nprogram: /prog\nports: [80]\nfiles: [{path: /prog, from: prog, mode: 0755}]\n"))
	args := vmmtest.Install(t, "ctl exit 0")
	// The manifest's program comes from its files only if it is not on the host.
	status, _, errs := pack(t, "run", "--accel", "tcg", "web")
	if status == 0 {
		if all := strings.Join(args(), " "); !strings.Contains(all, "hostfwd=tcp:127.0.0.1:") || !strings.Contains(errs, "port 80 of the machine is 127.0.0.1:") {
			t.Errorf("%q %s", errs, all)
		}
	} else {
		t.Fatal(errs)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if status, _, errs := pack(t, "run", "--accel", "tcg", "-p", taken+":80", "web"); status != 1 || !strings.Contains(errs, "port "+taken) {
		t.Errorf("%d %q", status, errs)
	}
}

// 80 and 8080 both want 8080 here.
func TestTwoPortsOfAnImageGetTwoPortsHere(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "web/prog", static())
	write(t, "web/manifest.yaml", []byte("name: web\nprogram: /prog\nports: [80, 8080, 443, 8443]\nfiles: [{path: /prog, from: prog, mode: 0755}]\n"))
	args := vmmtest.Install(t, "ctl exit 0")
	if status, _, errs := pack(t, "run", "--accel", "tcg", "web"); status != 0 {
		t.Fatal(errs)
	}
	all := strings.Join(args(), " ")
	here := map[string]string{}
	for _, m := range regexp.MustCompile(`hostfwd=tcp:127.0.0.1:(\d+)-:(\d+)`).FindAllStringSubmatch(all, -1) {
		here[m[1]] = m[2]
	}
	if len(here) != 4 {
		t.Errorf("%v in %s", here, all)
	}
}

func TestForwardsReachAnAddressOfTheImagesOwn(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	for name, network := range map[string]string{
		"four": "{mode: static, address: 192.168.7.2/24, gateway: 192.168.7.1, dns: [9.9.9.9, 192.168.7.1]}",
		"six":  "{mode: static, address: \"fd00::2/64\"}",
		"two":  "{mode: static, address: 192.168.7.2/31}",
	} {
		write(t, name+"/prog", static())
		write(t, name+"/manifest.yaml", []byte("name: x\nprogram: /prog\nports: [80]\nnetwork: "+network+"\nfiles: [{path: /prog, from: prog, mode: 0755}]\n"))
	}
	args := vmmtest.Install(t, "ctl exit 0")
	if status, _, errs := pack(t, "run", "--accel", "tcg", "four"); status != 0 || !strings.Contains(errs, "port 80 of the machine is 127.0.0.1:") {
		t.Errorf("%d %q", status, errs)
	}
	if all := strings.Join(args(), " "); !strings.Contains(all, ",net=192.168.7.0/24,host=192.168.7.3,dns=192.168.7.1,dhcpstart=192.168.7.2,hostfwd=tcp:127.0.0.1:") {
		t.Error(all)
	}
	for _, name := range []string{"six", "two"} {
		if status, _, errs := pack(t, "run", "--accel", "tcg", name); status != 0 || !strings.Contains(errs, "no port is forwarded: the image's own ") {
			t.Errorf("%d %q", status, errs)
		}
		if all := strings.Join(args(), " "); strings.Contains(all, "hostfwd") || strings.Contains(all, "net=192") {
			t.Error(all)
		}
		if status, _, errs := pack(t, "run", "-p", "0:80", name); status != 2 || !strings.Contains(errs, "-p cannot be: the image's own ") {
			t.Errorf("%d %q", status, errs)
		}
	}
}

func TestListsHaveJSON(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	status, out, errs := pack(t, "ls", "--json")
	var list []struct{ Name, About string }
	if err := json.Unmarshal([]byte(out), &list); status != 0 || err != nil || len(list) < 7 {
		t.Errorf("%d %v %q %q", status, err, out, errs)
	}
	for _, e := range list {
		if e.About == "" {
			t.Errorf("%s has no word on what it is", e.Name)
		}
	}
	write(t, "good", static())
	if status, _, errs := pack(t, "./good"); status != 0 || !strings.Contains(errs, "good.img") {
		t.Fatal(errs)
	}
	status, out, _ = pack(t, "inspect", "--json", "good.img")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 {
		t.Fatal(status, err)
	}
	found := false
	for _, f := range r.Files {
		found = found || f.Path == "/usr/local/bin/good" && f.Mode == "-rwxr-xr-x" && f.UID == 0
	}
	if !found || !bytes.Contains(r.Config, []byte("/usr/local/bin/good")) {
		t.Errorf("%s", out)
	}
	if status, out, _ = pack(t, "inspect", "good.img"); status != 0 || !strings.Contains(out, "/usr/local/bin/good") {
		t.Errorf("%d %s", status, out)
	}
}

// apt-get is one that interrupts pack, as Ctrl-C would, and does not end.
func TestAnInterruptLeavesNothingBehind(t *testing.T) {
	baketest.Setup(t)
	dir := t.TempDir()
	t.Chdir(dir)
	bin := t.TempDir()
	write(t, filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\nkill -INT $PPID\nexec sleep 30\n"))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	cache := t.TempDir()
	t.Setenv("KILN_CACHE", cache)
	for _, args := range [][]string{{"build", "-q", "deb:kiln-none", "-o", "x.img"}, {"run", "-q", "deb:kiln-none"}} {
		if args[0] == "run" {
			vmmtest.Install(t, "exit 0")
		}
		start := time.Now()
		status, _, errs := pack(t, args...)
		if status != 130 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "interrupt") || time.Since(start) > 10*time.Second {
			t.Errorf("%v: status %d after %s: %q", args, status, time.Since(start), errs)
		}
	}
	if files := append(left(dir), left(cache)...); len(files) > 0 {
		t.Errorf("%v are left", files)
	}
}

// after does something once what it is written has a text in it.
type after struct {
	bytes.Buffer
	text string
	then func()
}

func (a *after) Write(p []byte) (int, error) {
	if strings.Contains(string(p), a.text) {
		a.then()
	}
	return a.Buffer.Write(p)
}

// The image is baked, the one for this run is made, and the machine not started yet.
func TestAnInterruptBetweenBakingAndBootingLeavesNothingBehind(t *testing.T) {
	baketest.Setup(t)
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "web/prog", static())
	write(t, "web/manifest.yaml", []byte("name: web\nprogram: /prog\nports: [80]\nfiles: [{path: /prog, from: prog, mode: 0755}]\n"))
	cache, tmp := t.TempDir(), t.TempDir()
	t.Setenv("KILN_CACHE", cache)
	t.Setenv("TMPDIR", tmp)
	vmmtest.Install(t, "print up;ctl exit 0")
	made := 0
	errs := &after{text: "port 80 of the machine", then: func() {
		made = len(left(cache)) + len(left(tmp))
		syscall.Kill(os.Getpid(), syscall.SIGINT)
		time.Sleep(200 * time.Millisecond)
	}}
	var out bytes.Buffer
	status := Main(context.Background(), []string{"run", "-e", "A=b", "web"}, &out, errs)
	if status != 130 || out.Len() > 0 || !strings.HasSuffix(errs.String(), "pack: ended by interrupt, nothing was made\n") {
		t.Errorf("%d %q %q", status, out.String(), errs.String())
	}
	if files := append(left(cache), left(tmp)...); made != 2 || len(files) > 0 {
		t.Errorf("%d files were made, %v are left", made, files)
	}
}

// left are the files below a folder.
func left(dir string) (files []string) {
	filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, p)
		}
		return nil
	})
	return files
}

func TestWhoReadsTheConsoleGoesAndTheMachineIsStoppedAndNothingLeft(t *testing.T) {
	exe := packFile(t)
	cache, tmp := t.TempDir(), t.TempDir()
	t.Setenv("KILN_CACHE", cache)
	t.Setenv("TMPDIR", tmp)
	vmmtest.Install(t, "print one;echo;await;print three;ctl signal 15")
	cmd := exec.Command(exe, "run", "-q", "--accel", "tcg", "-e", "A=b", "./good")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "one\n" {
		t.Errorf("%q %v", line, err)
	}
	if made := append(left(cache), left(tmp)...); len(made) < 2 {
		t.Errorf("only %v were made", made)
	}
	out.Close()
	io.WriteString(in, "two\n")
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 143 || errs.Len() > 0 {
		t.Errorf("%v %q", cmd.ProcessState, errs.String())
	}
	if files := append(left(cache), left(tmp)...); len(files) > 0 {
		t.Errorf("%v are left", files)
	}
}

var startedWithoutHangup = signal.Ignored(syscall.SIGHUP)

// nohup has SIGHUP ignored; the program is to hear of the next signal only.
func TestAnIgnoredHangupIsNotPassedOn(t *testing.T) {
	exe := packFile(t)
	for trap, want := range map[string]string{"": "got signal 1\n", "trap '' HUP; ": "got signal 10\n"} {
		if trap == "" && startedWithoutHangup {
			continue
		}
		vmmtest.Install(t, "print up;await;ctl exit 7")
		cmd := exec.Command("/bin/sh", "-c", trap+"exec "+exe+" run -q --accel tcg ./good")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(out)
		r.ReadString('\n')
		cmd.Process.Signal(syscall.SIGHUP)
		time.Sleep(100 * time.Millisecond) // two signals at once have no order
		cmd.Process.Signal(syscall.SIGUSR1)
		if line, err := r.ReadString('\n'); line != want {
			t.Errorf("%q: %q %v", trap, line, err)
		}
		if cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("%q: %v", trap, cmd.ProcessState)
		}
	}
}

func TestSameInputGivesTheSameImage(t *testing.T) {
	baketest.Setup(t)
	t.Chdir(t.TempDir())
	write(t, "good", static())
	var first []byte
	for _, name := range []string{"a.img", "b.img"} {
		if status, _, errs := pack(t, "./good", "-o", name); status != 0 {
			t.Fatal(errs)
		}
		os.Chtimes("good", t0, t0)
		b, _ := os.ReadFile(name)
		if first == nil {
			first = b
		} else if !bytes.Equal(first, b) {
			t.Error("two images of one program differ")
		}
	}
}
