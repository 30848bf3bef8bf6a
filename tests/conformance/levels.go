package conformance

import (
	_ "embed"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"

	"kiln/syscalls"
)

// How the level of a system call is derived. masks.txt lists, by call, the flags, commands
// and options of Linux 6.1. A run of the cases on hosted sees which of them each case uses in
// a call that succeeds and in one that fails; covered.txt keeps one case of each kind, and
// that case notices when the call is ENOSYS. A call whose entries are all covered is full,
// or partial where entries are named absent or the kernel's table says so; one without a
// mask, or with an entry that no case covers, is only claimed.

// Mask is an entry of masks.txt.
type Mask struct {
	Call, Name string
	// Arg is the argument that holds it, -1 for the call itself. With Deref it points to a
	// value of Width bytes Off bytes on.
	Arg, Off, Width int
	Deref           bool
	// Field is the part of the argument that it is compared with; 0: all its bits are set.
	Field, Value uint64
	// NoError: a call with it cannot fail because of that, or at all. NoSuccess: it does
	// not return, or Linux always refuses it.
	NoError, NoSuccess bool
	// Absent is the errno that it gets here, as from a kernel built without it, and why.
	Absent string
}

// Key names the entry in covered.txt.
func (m *Mask) Key() string { return m.Call + " " + m.Name }

// In says whether a call with these arguments used the entry; read gives program memory.
func (m *Mask) In(a [6]uint64, read func(at uint64, b []byte) bool) bool {
	if m.Arg < 0 {
		return true
	}
	v := a[m.Arg]
	if m.Deref {
		var b [8]byte
		if !read(v+uint64(m.Off), b[:m.Width]) {
			return false
		}
		v = 0
		for i := m.Width - 1; i >= 0; i-- {
			v = v<<8 | uint64(b[i])
		}
	}
	if m.Field != 0 {
		return v&m.Field == m.Value
	}
	return v&m.Value == m.Value
}

//go:embed masks.txt
var maskText string

//go:embed covered.txt
var coveredText string

// Masks are the entries of masks.txt by call.
var Masks = sync.OnceValue(func() map[string][]*Mask {
	m, err := parseMasks(maskText)
	if err != nil {
		panic(err) // embedded; a test parses it
	}
	return m
})

// parseMasks reads lines of
//
//	CALL[!]                          the call itself
//	CALL ARG KIND NAME=VALUE[!?]…    flags (bits), values (is), or parts of one (a mask)
//	absent CALL ARG KIND NAME=VALUE ERRNO why
//
// where ARG is a number, or N+OFFSET/WIDTH for what argument N points to; ! says that it
// cannot fail and ? that it cannot succeed.
func parseMasks(text string) (map[string][]*Mask, error) {
	all := map[string][]*Mask{}
	for n, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		bad := func(err error) error { return fmt.Errorf("masks.txt:%d: %q: %v", n+1, line, err) }
		absent := f[0] == "absent"
		if absent {
			f = f[1:]
		}
		if len(f) == 1 {
			m := &Mask{Name: "call", Arg: -1}
			m.Call = m.marks(f[0])
			all[m.Call] = append(all[m.Call], m)
			continue
		}
		if len(f) < 4 {
			return nil, bad(fmt.Errorf("too short"))
		}
		entries, why := f[3:], ""
		if absent {
			if len(f) < 6 {
				return nil, bad(fmt.Errorf("no errno and reason"))
			}
			entries, why = f[3:4], strings.Join(f[4:], " ")
		}
		for _, e := range entries {
			m := &Mask{Call: f[0], Absent: why}
			if err := m.parse(f[1], f[2], e); err != nil {
				return nil, bad(err)
			}
			all[m.Call] = append(all[m.Call], m)
		}
	}
	return all, nil
}

// marks takes the marks off the end of an entry.
func (m *Mask) marks(s string) string {
	for {
		switch {
		case strings.HasSuffix(s, "!"):
			m.NoError = true
		case strings.HasSuffix(s, "?"):
			m.NoSuccess = true
		default:
			return s
		}
		s = s[:len(s)-1]
	}
}

func (m *Mask) parse(arg, kind, entry string) error {
	arg, at, deref := strings.Cut(arg, "+")
	n, err := strconv.Atoi(arg)
	if err != nil || n < 0 || n > 5 {
		return fmt.Errorf("argument %q", arg)
	}
	m.Arg, m.Width = n, 8
	if m.Deref = deref; deref {
		off, width, ok := strings.Cut(at, "/")
		if m.Off, err = strconv.Atoi(off); err != nil {
			return err
		}
		if ok {
			if m.Width, err = strconv.Atoi(width); err != nil || m.Width > 8 {
				return fmt.Errorf("width %q", width)
			}
		}
	}
	switch kind {
	case "bits":
	case "is":
		m.Field = 0xffffffff
	default:
		if m.Field, err = strconv.ParseUint(kind, 0, 64); err != nil {
			return err
		}
	}
	name, value, _ := strings.Cut(m.marks(entry), "=")
	m.Name = name
	if m.Value, err = strconv.ParseUint(value, 0, 64); err == nil && m.Value == 0 && m.Field == 0 {
		err = fmt.Errorf("no bit in %s", name)
	}
	return err
}

// Cover is which cases use an entry in a call that succeeds and in one that fails; "-"
// where there is none to be.
type Cover struct{ Success, Error string }

// Covered is covered.txt by Mask.Key.
var Covered = sync.OnceValue(func() map[string]Cover {
	m := map[string]Cover{}
	for line := range strings.Lines(coveredText) {
		if f := strings.Fields(line); len(f) == 4 && f[0] != "#" {
			m[f[0]+" "+f[1]] = Cover{known(f[2]), known(f[3])}
		}
	}
	return m
})

// known drops the mark for "no case yet".
func known(s string) string {
	if s == "?" {
		return ""
	}
	return s
}

// Missing says which entries of a call no case covers.
func Missing(call string) (l []string) {
	for _, m := range Masks()[call] {
		if m.Absent != "" {
			continue
		}
		c := Covered()[m.Key()]
		if c.Success == "" && !m.NoSuccess {
			l = append(l, m.Name+" (success)")
		}
		if c.Error == "" && !m.NoError {
			l = append(l, m.Name+" (error)")
		}
	}
	sort.Strings(l)
	return l
}

// Level is what can be said of a call: the kernel's table bounded by masks and cases.
// "claimed" is a call whose cases do not show what the table says.
func Level(e syscalls.Entry) string {
	if e.Support == syscalls.None || e.Support == syscalls.Stub {
		return levels[e.Support]
	}
	masks := Masks()[e.Name]
	if len(masks) == 0 || len(Missing(e.Name)) > 0 {
		return "claimed"
	}
	for _, m := range masks {
		if m.Absent != "" {
			return levels[syscalls.Partial]
		}
	}
	return levels[e.Support]
}
