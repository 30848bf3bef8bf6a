package net

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/hal/fake"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// userSpace is an address space with a mapping whose pages are not there yet.
func userSpace(t *testing.T, pages int) (*mm.Space, hal.UserAddr) {
	t.Helper()
	mem := mm.NewMemory(fake.New(pages + 512))
	sp, err := mm.NewSpace(mem)
	if err != nil {
		t.Fatal(err)
	}
	a, err := sp.Mmap(wait.Background(), mm.MapArgs{Len: uint64(pages) * hal.PageSize, Prot: hal.ProtRead | hal.ProtWrite,
		Flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS})
	if err != nil {
		t.Fatal(err)
	}
	return sp, a
}

func TestReadsIntoAbsentPagesLoseNothing(t *testing.T) {
	const n = 40 * hal.PageSize
	for _, kind := range []string{"tcp", "unix", "peek"} {
		t.Run(kind, func(t *testing.T) {
			s := newStack(t, testRAM)
			var rx, tx Socket
			if kind == "unix" {
				tx, rx = pair(t, s, unix.SOCK_STREAM)
			} else {
				rx, tx, _ = connected(t, s, s, in4(127, 0, 0, 1, 0))
			}
			data := pattern(n)
			go write(t, tx, data)
			sp, at := userSpace(t, 41)
			got := 0
			for got < n {
				if err := await(t, rx, func() error {
					q := mm.UserIO(sp, me.C, at+hal.UserAddr(got)+100, n-got)
					if kind == "peek" {
						k := q
						if _, err := rx.Recv(me, &k, &RecvMsg{Flags: unix.MSG_PEEK}); err != nil {
							return err
						}
					}
					k, err := rx.Read(me.C, nil, &q, -1)
					got += k
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			back := make([]byte, n)
			if _, err := sp.CopyIn(me.C, back, at+100); err != nil || !bytes.Equal(back, data) {
				t.Fatalf("bytes differ (%v)", err)
			}
		})
	}
}

func TestBadBuffersAreEFAULT(t *testing.T) {
	s := newStack(t, testRAM)
	srv, cli, _ := connected(t, s, s, in4(127, 0, 0, 1, 0))
	ua, ub := pair(t, s, unix.SOCK_STREAM)
	da, db := sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0), sock(t, s, unix.AF_INET, unix.SOCK_DGRAM, 0)
	da.Bind(me, in4(127, 0, 0, 1, 0))
	if err := db.Connect(me, in4(127, 0, 0, 1, portOf(t, da))); err != nil {
		t.Fatal(err)
	}
	sp, _ := userSpace(t, 1)
	for _, p := range [][2]Socket{{srv, cli}, {ua, ub}, {da, db}} {
		bad := mm.UserIO(sp, me.C, 0x5000_0000, 10)
		if _, err := p[1].Write(me.C, nil, &bad, -1); err != unix.EFAULT {
			t.Errorf("%T write: %v", p[1], err)
		}
		write(t, p[1], []byte("data"))
		if err := await(t, p[0], func() error {
			bad := mm.UserIO(sp, me.C, 0x5000_0000, 10)
			_, err := p[0].Read(me.C, nil, &bad, -1)
			return err
		}); err != unix.EFAULT {
			t.Errorf("%T read: %v", p[0], err)
		}
	}
	// A stream's bytes are still there.
	if b := readFull(t, srv, 4); string(b) != "data" {
		t.Errorf("got %q", b)
	}
}

func TestUnixPathNames(t *testing.T) {
	s := newStack(t, testRAM)
	fs, err := tmpfs.New(mm.NewMemory(fake.New(512)), "")
	if err != nil {
		t.Fatal(err)
	}
	ns := vfs.NewNamespace(fs, "tmpfs", 0)
	c := &Caller{C: wait.Background(), PID: 1, Creds: vfs.RootCreds(), NS: ns}
	c.Lookup = vfs.Lookup{C: c.C, FS: vfs.NewFSContext(ns), Creds: c.Creds}
	l := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err := l.Bind(c, unixName("/run.sock")); err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(c, 5); err != nil {
		t.Fatal(err)
	}
	if a, _, err := ns.Stat(c.Lookup, "/run.sock", vfs.WalkFollow); err != nil || a.Mode&unix.S_IFMT != unix.S_IFSOCK {
		t.Errorf("stat: %o, %v", a.Mode, err)
	}
	if err := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0).Bind(c, unixName("/run.sock")); err != unix.EADDRINUSE {
		t.Errorf("second bind: %v", err)
	}
	x := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err := x.Connect(c, unixName("run.sock")); err != nil {
		t.Fatal(err)
	}
	y := accept(t, l)
	write(t, y, []byte("hi"))
	if b := readFull(t, x, 2); string(b) != "hi" {
		t.Errorf("got %q", b)
	}
	if n, _ := x.PeerName(); string(n[2:]) != "/run.sock\x00" {
		t.Errorf("peer name %q", n)
	}
	z := sock(t, s, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err := z.Connect(c, unixName("/nowhere")); err != unix.ENOENT {
		t.Errorf("no such path: %v", err)
	}
	if err := z.Connect(c, unixName("/")); err != unix.ECONNREFUSED {
		t.Errorf("a directory: %v", err)
	}
	if err := sock(t, s, unix.AF_UNIX, unix.SOCK_DGRAM, 0).Connect(c, unixName("/run.sock")); err != unix.EPROTOTYPE {
		t.Errorf("other type: %v", err)
	}
	l.Release(nil)
	if err := z.Connect(c, unixName("/run.sock")); err != unix.ECONNREFUSED {
		t.Errorf("left-over name: %v", err)
	}
}
