package boot

import (
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// together are stress-ng's stressors of memory, processes, files and calls that end by
// themselves and leave the console alone.
var together = strings.Fields(`access aio aiol alarm brk bigheap chattr chdir chmod chown clone close context copy-file daemon dentry dir dirdeep
	dirmany dnotify dup dynlib epoll eventfd exit-group fallocate fanotify fault fcntl fiemap fifo file-ioctl filename flock fork forkheavy
	fpunch fstat full futex getdent getrandom hdd hsearch inode-flags inotify itimer kcmp kill link locka lockf lockofd madvise malloc
	mcontend membarrier memcpy memfd memrate memthrash mincore mknod mlock mlockmany mmap mmapaddr mmapfixed mmapfork mmaphuge mmapmany
	mprotect mq mremap msg msync msyncmany munmap mutex nanosleep netlink-proc netlink-task null numa oom-pipe open pagemove pageswap
	personality pidfd ping-sock pipe pipeherd poll procfs pthread ptrace pty readahead remap rename revio ring-pipe rlimit rmap schedpolicy
	seal seccomp seek sem sem-sysv sendfile session set shm shm-sysv sigchld sigfd sigio signal sigpending sigpipe sigq sigrt sigsuspend
	sleep sock sockabuse sockdiag sockfd sockpair spawn splice stack stackmmap switch symlink sync-file sysinfo tee timer timerfd
	tlb-shootdown tmpfs touch udp unshare userfaultfd utime vdso vfork vforkmany vm-addr vm-rw vm-splice wait xattr yield zero zombie`)

// Five stressors at once, chosen at random, in memory that is too small for some: victims are
// chosen and pages taken back while processes come and go. The machine lives, and no round is
// so slow that it has to be killed. Such rounds found locks that two took from each other, page
// tables that were emptied while reclaim looked at them, and a victim that would not end.
func TestStressorsTogetherInLittleMemory(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	var script strings.Builder
	// A child whose parent has been killed sends its new one, this shell, a SIGALRM.
	script.WriteString("cd /tmp\ntrap : ALRM\nrun() { echo \"at $SECONDS: $*\"; a=; for n; do a=\"$a --$n 1\"; done\n" +
		"timeout -s KILL 150 stress-ng $a -t 3 --temp-path /tmp --log-brief --oomable --bigheap-growth 4m --hdd-bytes 16m --fallocate-bytes 16m " +
		"--mmap-bytes 16m --shm-bytes 4m --zombie-max 200 --pthread-max 64 --no-rand-seed > said 2>&1\n" +
		"s=$?; case $s in 12[567]|137) echo \"ROUND ENDED WITH $s\"; cat said;; esac; rm -rf /tmp/*; }\n")
	rounds := size(5, 150)
	for range rounds {
		script.WriteString("run")
		for _, i := range r.Perm(len(together))[:5] {
			script.WriteString(" " + together[i])
		}
		script.WriteString("\n")
	}
	script.WriteString("echo ALL ROUNDS ENDED\n")
	dir := t.TempDir()
	manifest := `name: stressors
about: stressors of stress-ng, several at a time
program: /usr/bin/bash
args: [/script]
env: {PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: /root}
memory: 448M
files:
  - {path: /usr/bin/stress-ng}
  - {path: /usr/bin/cat}
  - {path: /usr/bin/rm}
  - {path: /usr/bin/timeout}
  - {path: /usr/bin/true}
  - {path: /usr/bin/sh, link: bash}
  - {path: /script, from: script}
`
	for name, text := range map[string]string{"manifest.yaml": manifest, "script": script.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, status := run(t, time.Duration(rounds)*time.Minute+2*time.Minute, image(t, dir), nil)
	if status != 0 || !strings.Contains(out, "ALL ROUNDS ENDED") || strings.Contains(out, "ROUND ENDED WITH") {
		t.Errorf("status %d\n%s", status, tail(out))
	}
}
