package hosted

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"kiln/capstan/elfinfo"
	"kiln/capstan/tree"
	"kiln/kernel/image"
)

// toolbox is a tree with Debian's own programs from this machine.
func toolbox(t *testing.T, names ...string) *tree.Tree {
	t.Helper()
	root := tree.New()
	host := tree.HostSource{Dir: "/"}
	closure := elfinfo.NewClosure(host)
	for _, d := range []string{"/tmp", "/dev", "/proc", "/sys", "/root", "/etc", "/run"} {
		if err := root.Add(d, tree.Dir(0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		file, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("%v: .ci/setup installs it", err)
		}
		n, err := tree.HostFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := root.Add("/bin/"+name, n); err != nil {
			t.Fatal(err)
		}
		if err := closure.Add(file); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range closure.Libraries() {
		for _, p := range []string{l.Path, l.Real} {
			if err := root.CopyPath(host, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := root.CopyPath(host, "/lib/terminfo/d/dumb"); err != nil { // top wants it
		t.Fatal(err)
	}
	root.Add("/etc/passwd", tree.File(0o644, []byte("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/bash\n")))
	root.Add("/etc/group", tree.File(0o644, []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")))
	return root
}

// shellRun runs a bash script on a machine with tools.
func shellRun(t *testing.T, script string, names ...string) Result {
	t.Helper()
	root := toolbox(t, append([]string{"bash"}, names...)...)
	root.Add("/script", tree.File(0o755, []byte(script)))
	r := &Run{Root: root, Config: image.Config{Name: "tools", Strace: os.Getenv("KILN_STRACE") != "", Program: "/bin/bash", Args: []string{"bash", "/script"}, Env: []string{"PATH=/bin", "LC_ALL=C", "TERM=dumb"}}}
	res, err := r.Do()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, tail(res.Output), tail(res.Log))
	}
	return res
}

// section is what the script printed between two "=== name" lines.
func section(t *testing.T, out, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(out, "=== "+name+"\r\n")
	if !ok {
		t.Fatalf("no section %s in:\n%s", name, out)
	}
	rest, _, _ = strings.Cut(rest, "=== ")
	return strings.ReplaceAll(rest, "\r", "")
}

// wantLines wants a line for each expression, in any order.
func wantLines(t *testing.T, out, name string, patterns ...string) {
	t.Helper()
	text := section(t, out, name)
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)^" + p + "$").MatchString(text) {
			t.Errorf("%s has no line %q:\n%s", name, p, text)
		}
	}
}

// What Debian's own tools make of /proc, with a background job, a session of its own, a
// process that works under another name and with another nice value, and a zombie.
func TestDebiansToolsShowTheProcesses(t *testing.T) {
	res := shellRun(t, `
sleep 300 &
setsid sleep 301 &
nice -n 5 bash -c 'exec -a renamed cat /dev/zero >/dev/null' &
bash -c 'sleep 0.4 & exec sleep 302' &
exec 9>/tmp/locked; flock -x 9
sleep 1
say() { echo "=== $1"; }
say ps; ps -eo pid,ppid,pgid,sid,tty,tpgid,stat,nlwp,pri,ni,wchan:20,user,args
say aux; ps aux
say threads; ps -eLo pid,lwp,stat,comm
say top; top -b -n 1
say lsof; lsof -w -n -P -p 1
say pgrep; pgrep -a sleep; pgrep -f renamed; pgrep -c -P 1 .
say free; free -k
say uptime; uptime
say w; w -h; echo w $?
say pmap; pmap -x 1
say vmstat; vmstat 1 2
say fdinfo; cat /proc/1/fdinfo/9
say locks; cat /proc/locks
say children; cat /proc/1/task/1/children; echo
say io; cat /proc/1/io
say end
kill %1 %2 %3 %4
`, "ps", "top", "lsof", "pgrep", "free", "uptime", "w", "pmap", "vmstat", "sleep", "cat", "setsid", "nice", "flock")
	out := res.Output
	wantLines(t, out, "ps",
		` +1 +0 +1 +1 ttyS0 +1 Ss\+ +1 +19 +0 do_wait +root +bash /script`,
		` +2 +1 +1 +1 ttyS0 +1 S\+ +1 +19 +0 hrtimer_nanosleep +root +sleep 300`,
		` +3 +1 +3 +3 \? +-1 Ss +1 +19 +0 hrtimer_nanosleep +root +sleep 301`,
		` +4 +1 +1 +1 ttyS0 +1 RN\+ +1 +14 +5 - +root +renamed /dev/zero`,
		` +5 +1 +1 +1 ttyS0 +1 S\+ +1 +19 +0 hrtimer_nanosleep +root +sleep 302`,
		` +\d+ +5 +1 +1 ttyS0 +1 Z\+ +1 +19 +0 - +root +\[sleep\] <defunct>`)
	wantLines(t, out, "aux", `root +1 +[\d.]+ +[\d.]+ +[1-9]\d+ +[1-9]\d+ ttyS0 +Ss\+ +\d\d:\d\d +0:\d\d bash /script`)
	wantLines(t, out, "threads", ` +1 +1 Ss\+ +bash`, ` +4 +4 RN\+ +cat`, ` +\d+ +\d+ Z\+ +sleep`)
	wantLines(t, out, "top", `top - \d\d:\d\d:\d\d up 0 min, .*load average: \d+\.\d\d, \d+\.\d\d, \d+\.\d\d`,
		`Tasks: +\d+ total, +\d+ running, +\d+ sleeping, +0 stopped, +1 zombie`, `MiB Mem : +128.0 total, +\d.*`, ` +4 root +25 +5 +\d+ +\d+ +\d+ R .* cat *`)
	wantLines(t, out, "lsof", `bash +1 root +cwd +DIR .* /`, `bash +1 root +txt +REG .* /bin/bash`, `bash +1 root +mem +REG .*/libc.so.6`,
		`bash +1 root +1u +CHR +5,1 +0t0 .* /dev/console`, `bash +1 root +9w +REG .* /tmp/locked`, `bash +1 root +255r +REG .* /script`)
	wantLines(t, out, "pgrep", `2 sleep 300`, `3 sleep 301`, `4`)
	wantLines(t, out, "free", `Mem: +131072 +\d+ +\d+ +\d+ +\d+ +\d+`)
	wantLines(t, out, "uptime", ` \d\d:\d\d:\d\d up 0 min, .*load average: .*`)
	wantLines(t, out, "w", `w 0`)
	wantLines(t, out, "pmap", `1: +bash /script`, `[0-9a-f]{16} +\d+ +\d+ +0 r-x-- libc.so.6`, `[0-9a-f]{16} +\d+ +\d+ +[1-9]\d* rw--- +\[ stack \]`, `total kB +\d+ +\d+ +[1-9]\d*`)
	wantLines(t, out, "vmstat", ` +\d+ +0 +0 +\d+ +0 +\d+ +0 +0 +0 +0 +\d+ +\d+ +\d+ +\d+ +\d+ +0 +0`)
	wantLines(t, out, "fdinfo", `flags:\t01\d*1`, `lock:\t1: FLOCK +ADVISORY +WRITE \d+ 00:[0-9a-f]+:\d+ 0 EOF`)
	wantLines(t, out, "locks", `1: FLOCK +ADVISORY +WRITE \d+ 00:[0-9a-f]+:\d+ 0 EOF`)
	wantLines(t, out, "children", `2 3 4 5 \d+ `)
	wantLines(t, out, "io", `rchar: [1-9]\d+`, `wchar: [1-9]\d+`, `syscr: [1-9]\d*`, `syscw: [1-9]\d*`)
	if t.Failed() {
		t.Log(tail(res.Log))
	}
}

// Another user sees what is everybody's of a process, and with hidepid not even that.
func TestAnotherUserDoesNotSeeWhatIsPrivate(t *testing.T) {
	res := shellRun(t, `
say() { echo "=== $1"; }
as() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@" 2>&1; }
say open; as cat /proc/1/stat /proc/1/status | grep -a -c -E "^(1 |Name)"; as cat /proc/1/cmdline; echo
say shut; for f in maps environ io auxv smaps syscall fdinfo/0; do as cat /proc/1/$f; done; as ls /proc/1/fd; as readlink /proc/1/exe; echo $?
say own; as sh -c 'cat /proc/self/environ > /dev/null && ls /proc/self/fd > /dev/null && readlink /proc/self/exe'
mkdir /tmp/p; mount -t proc -o hidepid=invisible proc /tmp/p
say options; grep /tmp/p /proc/mounts
say invisible; as ls /tmp/p/1; as sh -c 'cd /tmp/p; for p in [0-9]*; do [ $p = $$ ] || echo sees $p; done; echo $(cat $$/comm)'
say root; [ -e /tmp/p/1/stat ] && echo all
mount -o remount,hidepid=1 /tmp/p
say noaccess; as cat /tmp/p/1/stat; as ls -d /tmp/p/1
mount -o remount,hidepid=nonsense /tmp/p; echo $?
mount -o remount,hidepid=2,gid=65534 /tmp/p
say group; as ls -d /tmp/p/1
say end
`, "cat", "grep", "ls", "mount", "mkdir", "readlink", "setpriv", "sh")
	out := res.Output
	wantLines(t, out, "open", "2", "bash\x00/script\x00")
	var denied []string
	for _, f := range []string{"maps", "environ", "io", "auxv", "smaps", "syscall", "fdinfo/0"} {
		denied = append(denied, "cat: /proc/1/"+f+": Permission denied")
	}
	wantLines(t, out, "shut", append(denied, "ls: cannot open directory '/proc/1/fd': Permission denied", "1")...)
	wantLines(t, out, "own", "/bin/readlink")
	wantLines(t, out, "options", "proc /tmp/p proc rw,.*hidepid=invisible 0 0")
	wantLines(t, out, "invisible", "ls: cannot access '/tmp/p/1': No such file or directory", "sh")
	if strings.Contains(out, "sees") {
		t.Errorf("hidden processes are seen:\n%s", section(t, out, "invisible"))
	}
	wantLines(t, out, "root", "all")
	wantLines(t, out, "noaccess", "cat: /tmp/p/1/stat: Operation not permitted", "/tmp/p/1", "32")
	wantLines(t, out, "group", "/tmp/p/1")
}
