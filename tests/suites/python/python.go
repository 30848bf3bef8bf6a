// Package python runs CPython's own test suite, Debian's libpython3.11-testsuite, module
// by module on Linux and on Kiln. image/suite.py is what runs them in the machine.
//
//	go run ./tests/suites/python/record [MODULE...]    records what Linux makes of them
//	KILN_SUITE=test_os go test ./tests/suites/python   compares one module (or several)
package python

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"kiln/tests/suites"
	"kiln/tests/vmtest"
)

// Modules are those that are about the system, as test.libregrtest names them.
var Modules = []string{
	"test_os", "test_socket", "test_select", "test_selectors", "test_signal", "test_subprocess", "test_threading", "test_mmap",
	"test_asyncio", "test_posix", "test_time", "test_tempfile", "test_fcntl", "test_resource", "test_multiprocessing_fork",
	"test_multiprocessing_spawn", "test_multiprocessing_forkserver",
	// and of their kind
	"test_poll", "test_epoll", "test_eintr", "test_pty", "test_threadsignals", "test_wait3", "test_wait4", "test_fork1", "test_popen",
	"test_os@user", "test_posix@user", "test_tempfile@user", "test_resource@user", "test_subprocess@user", "test_shutil@user",
	"test_posixpath", "test_shutil", "test_socketserver", "test_openpty", "test_getpass", "test_thread", "test_concurrent_futures",
}

// Recording is what Linux made of a module. That of a module which has not come to its
// end here yet on a host that was idle enough is in linux/unchecked: docs/abi.md, which
// gives figures of what was seen, has it once it is moved up.
func Recording(module string) (suites.Unit, error) {
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	u, err := suites.ReadUnit(filepath.Join(dir, "linux", module+".txt"))
	if errors.Is(err, fs.ErrNotExist) {
		return suites.ReadUnit(filepath.Join(dir, "linux", "unchecked", module+".txt"))
	}
	return u, err
}

// Dir is the suite's folder in the tree.
func Dir() (string, error) {
	root, err := vmtest.Root()
	return filepath.Join(root, "tests", "suites", "python"), err
}

// Bake makes the image, from Debian's packages alone.
func Bake(ctx context.Context, img string) error {
	pack, err := vmtest.Pack()
	if err != nil {
		return err
	}
	dir, err := Dir()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, pack, "build", "--no-host", filepath.Join(dir, "image"), "-o", img).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pack build: %w\n%s", err, out)
	}
	return nil
}

// Run is what came of a module.
type Run struct {
	Unit    suites.Unit
	Details map[string]string // of what did not pass
	Ended   bool              // it came to its end
	Log     string            // what the module printed last
}

// line is one of suite.py's.
type line struct {
	Module, ID, Result, Detail, Log string
	Done                            bool
}

// parse reads what suite.py printed, a record separator and a line of JSON for each
// outcome, into a run for each module.
func parse(out []byte) (map[string]*Run, error) {
	runs := map[string]*Run{}
	for _, rec := range bytes.Split(out, []byte{0x1e})[1:] {
		rec, _, _ = bytes.Cut(rec, []byte("\n"))
		var l line
		if err := json.Unmarshal(rec, &l); err != nil {
			return runs, fmt.Errorf("%q: %w", rec, err)
		}
		r := runs[l.Module]
		if r == nil {
			r = &Run{Unit: suites.Unit{}, Details: map[string]string{}}
			runs[l.Module] = r
		}
		if l.Done {
			r.Ended, r.Log = true, l.Log
			continue
		}
		o := suites.Fail // a hang, a crash
		switch l.Result {
		case "pass", "skip":
			o = suites.Outcome(l.Result)
		}
		id := strings.TrimPrefix(strings.ReplaceAll(l.ID, "\n", " "), "test.")
		if old, seen := r.Unit[id]; seen && old != suites.Pass {
			continue // two of one name: the worse counts
		}
		r.Unit[id] = o
		if o != suites.Pass {
			r.Details[id] = l.Result + ": " + l.Detail
		}
	}
	return runs, nil
}

// hang is how long a test may say nothing.
const hang = 4 * time.Minute

// arguments are suite.py's. A module may have patterns of fnmatch behind colons, which
// choose tests.
func arguments(modules []string) []string {
	return append([]string{"/suite.py", "-limit", strconv.Itoa(int(hang / time.Second)), "/dev/console"}, modules...)
}

// Linux runs modules on this host's kernel.
func Linux(ctx context.Context, img string, modules ...string) (map[string]*Run, error) {
	var out buffer
	if err := suites.Linux(ctx, img, &out, append([]string{"/usr/bin/python3"}, arguments(modules)...)...); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out.bytes())
	}
	return parse(out.bytes())
}

// Hosted runs modules on Kiln as a process, one machine for all.
func Hosted(ctx context.Context, img string, modules ...string) (map[string]*Run, error) {
	pack, err := vmtest.Pack()
	if err != nil {
		return nil, err
	}
	var out buffer
	args := append([]string{"run", "--quiet", "--vmm", "process", "--net", "none", "-m", "2G", "-c", "2", img, "--"}, arguments(modules)...)
	cmd := exec.CommandContext(ctx, pack, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%v on Kiln: %w\n%s", modules, err, out.bytes())
	}
	return parse(out.bytes())
}

// buffer is written to by several.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}
