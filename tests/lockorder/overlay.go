// Package lockorder finds locks that are taken in no one order: of two threads that each
// wait for what the other holds, the machine stands still, and a test that does not meet the
// moment does not see it. It runs programs with a package sync that tells which lock was
// taken under which (Overlay), names the locks by the fields that hold them (Classes), and
// looks for circles (Read, Graph.Circles): what Linux's lockdep does.
package lockorder

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var (
	//go:embed watch.go.txt
	watch []byte
	//go:embed watch_runtime.go.txt
	watchRuntime []byte
)

// edit is a text in a source file, and what stands there under watch.
type edit struct{ from, to string }

// edits of GOROOT's files. What locks is not inlined, so that its caller is known.
var edits = map[string][]edit{
	"sync/mutex.go": {
		{"import (\n", "import (\n\t\"unsafe\"\n"},
		{"func (m *Mutex) Lock() {\n", "//\n//go:noinline\nfunc (m *Mutex) Lock() {\n\tdefer watchHold(unsafe.Pointer(m), watchTake(unsafe.Pointer(m)))\n"},
		{"func (m *Mutex) TryLock() bool {\n\treturn m.mu.TryLock()\n", "//\n//go:noinline\nfunc (m *Mutex) TryLock() bool {\n\tif !m.mu.TryLock() {\n\t\treturn false\n\t}\n\twatchHold(unsafe.Pointer(m), watchHere())\n\treturn true\n"},
		{"func (m *Mutex) Unlock() {\n", "func (m *Mutex) Unlock() {\n\twatchLeave(unsafe.Pointer(m))\n"},
	},
	"sync/rwmutex.go": {
		{"func (rw *RWMutex) RLock() {\n", "//\n//go:noinline\nfunc (rw *RWMutex) RLock() {\n\tdefer watchHold(unsafe.Pointer(rw), watchTake(unsafe.Pointer(rw)))\n"},
		{"func (rw *RWMutex) RUnlock() {\n", "func (rw *RWMutex) RUnlock() {\n\twatchLeave(unsafe.Pointer(rw))\n"},
		{"func (rw *RWMutex) Lock() {\n", "//\n//go:noinline\nfunc (rw *RWMutex) Lock() {\n\tdefer watchHold(unsafe.Pointer(rw), watchTake(unsafe.Pointer(rw)))\n"},
		{"func (rw *RWMutex) Unlock() {\n", "func (rw *RWMutex) Unlock() {\n\twatchLeave(unsafe.Pointer(rw))\n"},
		{"rw.w.", "rw.w.mu."}, // the mutex of writers is part of this lock
	},
	// Unlocked by one that may not wait for the watch's own lock.
	"sync/pool.go": {{"	allPoolsMu.", "	allPoolsMu.mu."}, {"defer allPoolsMu.", "defer allPoolsMu.mu."}},
}

// parks are edits of the tree's own files.
var parks = map[string][]edit{
	"kernel/task/sched.go": {{"func (t *Thread) leave() {\n", "func (t *Thread) leave() {\n\tsync.WatchPark()\n"}},
}

// Overlay writes the files of a watched build into dir, and gives the path for go build's
// -overlay. root is the tree's.
func Overlay(dir, root string) (string, error) {
	std, err := standard()
	if err != nil {
		return "", err
	}
	files := map[string][]byte{
		filepath.Join(std, "sync", "zz_watch.go"):    watch,
		filepath.Join(std, "sync", "zz_watch.s"):     {}, // lets watchGetg be without a body
		filepath.Join(std, "runtime", "zz_watch.go"): watchRuntime,
	}
	for from, edits := range map[string]map[string][]edit{std: edits, root: parks} {
		for name, es := range edits {
			path := filepath.Join(from, name)
			if files[path], err = edited(path, es); err != nil {
				return "", err
			}
		}
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for path, b := range files {
		own := filepath.Join(dir, fmt.Sprintf("%d-%s", len(overlay.Replace), filepath.Base(path)))
		if err := os.WriteFile(own, b, 0o644); err != nil {
			return "", err
		}
		overlay.Replace[path] = own
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, b, 0o644)
}

// standard is where the standard library's sources are.
func standard() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src"), nil
}

func edited(path string, es []edit) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := string(b)
	for _, e := range es {
		if !strings.Contains(s, e.from) {
			return nil, fmt.Errorf("%s has no %q: the watch does not know this version", path, e.from)
		}
		s = strings.ReplaceAll(s, e.from, e.to)
	}
	return []byte(s), nil
}
