package anon

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// FSContext is what fsopen and fspick give: a file system that is being set up, or set up
// anew. Mu guards the rest.
type FSContext struct {
	Base
	Mu     sync.Mutex
	Type   string
	Source string
	Flags  uint64 // MS_* of the file system
	Super  *vfs.Super
	Phase  FSPhase

	options []string
	size    int
	sourced bool
}

// FSPhase says what may be done next.
type FSPhase int

// Phases of a context (include/linux/fs_context.h).
const (
	FSParams      FSPhase = iota // parameters, then FSCONFIG_CMD_CREATE
	FSMountable                  // fsmount
	FSMounted                    // nothing until it is reconfigured
	FSReconfigure                // parameters, then FSCONFIG_CMD_RECONFIGURE
	FSFailed
)

// mostOptions bounds what a context keeps, in bytes: a page, as mount(2) takes.
const mostOptions = 4096

// NewFSContext makes one's file.
func NewFSContext(c *FSContext) *vfs.File { return newFile(c, 0, "[fscontext]") }

var superFlag = map[string]struct{ set, clear uint64 }{
	"dirsync": {set: unix.MS_DIRSYNC}, "lazytime": {set: unix.MS_LAZYTIME}, "mand": {set: unix.MS_MANDLOCK},
	"ro": {set: unix.MS_RDONLY}, "sync": {set: unix.MS_SYNCHRONOUS}, "async": {clear: unix.MS_SYNCHRONOUS},
	"nolazytime": {clear: unix.MS_LAZYTIME}, "nomand": {clear: unix.MS_MANDLOCK}, "rw": {clear: unix.MS_RDONLY},
}

// Set takes a parameter: EBUSY in another phase, EINVAL for what the type does not know.
// Called with Mu held.
func (c *FSContext) Set(t vfs.FSType, key, value string, hasValue bool) error {
	if c.Phase != FSParams && c.Phase != FSReconfigure {
		return unix.EBUSY
	}
	if key == "" {
		return unix.EINVAL
	}
	if f, ok := superFlag[key]; ok {
		c.Flags = c.Flags&^f.clear | f.set
		return nil
	}
	if key == "source" {
		if !hasValue || c.sourced {
			return unix.EINVAL
		}
		c.Source, c.sourced = value, true
		return nil
	}
	if strings.Contains(key, ",") || t.Check == nil {
		return unix.EINVAL
	}
	if err := t.Check(key, value); err != nil {
		return err
	}
	if hasValue {
		key += "=" + value
	}
	if c.size += len(key) + 1; c.size > mostOptions {
		return unix.EINVAL
	}
	c.options = append(c.options, key)
	return nil
}

// Options are the parameters as mount(2) takes them. Called with Mu held.
func (c *FSContext) Options() string { return strings.Join(c.options, ",") }

// Clear forgets them. Called with Mu held.
func (c *FSContext) Clear() { c.options, c.size = nil, 0 }

// Read implements vfs.FileOps: no message waits.
func (c *FSContext) Read(wait.Context, *vfs.File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.ENODATA
}
