package loader

import (
	"strings"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// args are the strings of the new program, counted as Linux counts them: the file
// name, the environment and the arguments must fit a quarter of the stack limit.
type args struct {
	filename string
	argv     []string
	env      []string
	interp   string // the name that a script's interpreter gets as its argument
	left     int64  // bytes that may still be added
	used     int64  // bytes so far
	stack    int64  // that the stack may grow to
}

func newArgs(r *Request) (*args, error) {
	a := &args{filename: r.Filename, argv: r.Argv, env: r.Env, interp: r.Filename}
	if len(a.argv) == 0 {
		a.argv = []string{""} // since Linux 5.18
	}
	a.stack = int64(max(min(r.Limits.Stack, 1<<40), hal.PageSize))
	a.used = 8 // the null pointer at the top
	limit := int64(max(min(argCeil, r.Limits.Stack/4), argFloor))
	pointers := int64(len(a.argv)+len(a.env)) * 8
	if limit <= pointers {
		return nil, unix.E2BIG
	}
	a.left = limit - pointers
	if err := a.charge(a.filename); err != nil {
		return nil, err
	}
	for _, list := range [][]string{a.env, a.argv} {
		for _, s := range list {
			if err := a.charge(s); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

func (a *args) charge(s string) error {
	n := int64(len(s) + 1)
	a.left -= n
	a.used += n
	if n > maxString || a.left < 0 || a.used > a.stack {
		return unix.E2BIG
	}
	return nil
}

func spaceTab(b byte) bool { return b == ' ' || b == '\t' }

// parseScript finds the interpreter and its one optional argument in a file's first
// 256 bytes. ENOEXEC where there is none, or its name may be cut off. The rules are
// those of Linux' fs/binfmt_script.c: the argument is the rest of the line, trimmed,
// and may be cut off; NUL ends the name and the argument.
func parseScript(head []byte) (name, arg string, err error) {
	nl := strings.IndexByte(string(head), '\n')
	if z := strings.IndexByte(string(head), 0); nl >= 0 && z >= 0 && z < nl {
		nl = -1 // strnchr stops at the NUL that pads a short file
	}
	end := nl
	if nl < 0 {
		end = len(head) - 1
		i := 2
		for i <= end && spaceTab(head[i]) {
			i++
		}
		for ; i <= end; i++ {
			if spaceTab(head[i]) || head[i] == 0 {
				break
			}
		}
		if i > end {
			return "", "", unix.ENOEXEC
		}
	}
	for end > 2 && spaceTab(head[end-1]) {
		end--
	}
	line := string(head[2:max(end, 2)])
	line = strings.TrimLeft(line, " \t")
	sep := strings.IndexAny(line, " \t\x00")
	if sep < 0 {
		name = line
	} else {
		name = line[:sep]
		if line[sep] != 0 {
			arg = strings.TrimLeft(line[sep:], " \t")
			if z := strings.IndexByte(arg, 0); z >= 0 {
				arg = arg[:z]
			}
		}
	}
	if line == "" {
		return "", "", unix.ENOEXEC
	}
	if name == "" {
		return "", "", unix.EACCES // an empty path: the working directory
	}
	return name, arg, nil
}

// script puts the interpreter named in head in front of the arguments and opens it.
func (a *args) script(r *Request, head []byte) (File, error) {
	name, arg, err := parseScript(head)
	if err != nil {
		return nil, err
	}
	if r.Unreachable {
		return nil, unix.ENOENT
	}
	argv := []string{name}
	if arg != "" {
		argv = append(argv, arg)
	}
	argv = append(argv, a.interp)
	a.left += int64(len(a.argv[0]) + 1)
	a.used -= int64(len(a.argv[0]) + 1)
	for i := len(argv) - 1; i >= 0; i-- {
		if err := a.charge(argv[i]); err != nil {
			return nil, err
		}
	}
	a.argv = append(argv, a.argv[1:]...)
	a.interp = name
	return r.Open(name)
}
