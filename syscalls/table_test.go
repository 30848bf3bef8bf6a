package syscalls

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryRowIsOnceUnderItsNameAndExplainsItself(t *testing.T) {
	seen := map[int]bool{}
	for _, f := range families {
		for _, e := range f {
			if e.Nr < 0 || e.Nr >= len(names) || names[e.Nr] != e.Name {
				t.Errorf("row %d is called %q", e.Nr, e.Name)
				continue
			}
			if seen[e.Nr] {
				t.Errorf("%s is there twice", e.Name)
			}
			seen[e.Nr] = true
			if e.Func == nil || e.Support == None {
				t.Errorf("%s has a row and no function", e.Name)
			}
			if (e.Support == Full) != (e.Note == "") {
				t.Errorf("%s: support %d with note %q", e.Name, e.Support, e.Note)
			}
			for _, m := range e.Masks {
				if m.Arg < 0 || m.Arg > 5 {
					t.Errorf("%s: a mask for argument %d", e.Name, m.Arg)
				}
			}
		}
	}
	if len(Table()) < 360 {
		t.Errorf("Table has %d calls", len(Table()))
	}
	for _, e := range Table() {
		if e.Support == None && e.Note == "" {
			t.Errorf("%s is absent without a reason", e.Name)
		}
	}
	for _, r := range reasons {
		if !slices.ContainsFunc(Table(), func(e Entry) bool { return e.Name == r.name && e.Support == None && e.Note == r.why }) {
			t.Errorf("a reason for %s, which is not absent", r.name)
		}
	}
}

func TestNumbersWithoutARowAreENOSYSAndLoggedOnce(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		p.fail(unix.ENOSYS, unix.SYS_BPF)
		p.fail(unix.ENOSYS, unix.SYS_BPF)
		p.fail(unix.ENOSYS, 400)                                // not in Linux' table
		p.fail(unix.ENOSYS, 1<<31)                              // negative
		p.fail(unix.ENOSYS, 0x40000000|unix.SYS_GETPID)         // x32
		p.want(1, 0xffffffff_00000000|unix.SYS_GETPID, 1, 2, 3) // EAX counts
	})
	if len(r.logs) != 2 || !strings.Contains(r.logs[0], "bpf") || !strings.Contains(r.logs[1], "2147483648") {
		t.Errorf("logged: %q", r.logs)
	}
}

func TestMasksRefuseUnknownBitsBeforeTheCall(t *testing.T) {
	r := newRig(t)
	d := r.k.Syscalls.(*Dispatcher)
	row := Entry{Func: d.calls[unix.SYS_GETPID], Masks: []Mask{{Arg: 1, Bits: 3}, {Arg: 2, Bits: 1, Errno: uintptr(unix.EOPNOTSUPP)}}}
	d.calls[unix.SYS_GETPID] = row.masked()
	r.run(nil, func(p *prog) {
		p.want(1, unix.SYS_GETPID, 99, 3, 1)
		p.fail(unix.EINVAL, unix.SYS_GETPID, 0, 4)
		p.fail(unix.EOPNOTSUPP, unix.SYS_GETPID, 0, 0, 1<<63)
	})
}

func TestStraceShowsNamesPathsAndErrnos(t *testing.T) {
	r := newRig(t)
	r.k.Strace.Store(true)
	r.run(nil, func(p *prog) {
		p.put(dataAt, []byte("/no\nne\x00"))
		p.sys(unix.SYS_CHDIR, dataAt)
		p.sys(unix.SYS_GETPID)
		p.sys(unix.SYS_EXIT_GROUP, 5)
	})
	all := strings.Join(r.logs, "\n")
	for _, want := range []string{`[1] chdir("/no\nne", 0x0`, "= -1 ENOENT", "getpid(", "= 1\n", "exit_group(0x5", "= ?"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

func TestGetpidAllocatesNothing(t *testing.T) {
	r := newRig(t)
	r.run(nil, func(p *prog) {
		th := p.thread()
		d := r.k.Syscalls.(*Dispatcher)
		th.Ctx.RAX = unix.SYS_GETPID
		if n := testing.AllocsPerRun(100, func() { th.Ctx.RAX = unix.SYS_GETPID; d.Dispatch(th) }); n != 0 {
			t.Errorf("getpid allocates %v times", n)
		}
	})
}

func BenchmarkDispatchGetpid(b *testing.B) {
	r := newRig(&testing.T{})
	r.run(nil, func(p *prog) {
		th := p.thread()
		d := r.k.Syscalls.(*Dispatcher)
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			th.Ctx.RAX = unix.SYS_GETPID
			d.Dispatch(th)
		}
		b.StopTimer()
	})
}
