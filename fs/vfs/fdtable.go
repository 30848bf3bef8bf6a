package vfs

// FDTable is a process's descriptors. Get is lock-free or nearly so: it is on the
// path of every read and write. (owner: fs helper)
type FDTable struct{}

// NewFDTable is an empty table with its reference held; max is RLIMIT_NOFILE's soft
// limit, which SetMax changes.
func NewFDTable(max int) *FDTable { panic("vfs: not written yet") }

// SetMax changes the limit for new descriptors.
func (t *FDTable) SetMax(max int) { panic("vfs: not written yet") }

// Get returns the file with a reference taken, nil if fd is not open.
func (t *FDTable) Get(fd int32) *File { panic("vfs: not written yet") }

// Install puts f (taking over the caller's reference) at the lowest free number
// >= min; EMFILE at the limit (the reference stays the caller's).
func (t *FDTable) Install(f *File, min int32, cloexec bool) (int32, error) {
	panic("vfs: not written yet")
}

// InstallAt is dup2's half: replaces what was at fd, whose old file is returned for
// the caller to release. EBADF beyond the limit.
func (t *FDTable) InstallAt(f *File, fd int32, cloexec bool) (old *File, err error) {
	panic("vfs: not written yet")
}

// Remove takes fd out; nil if it was not open.
func (t *FDTable) Remove(fd int32) *File { panic("vfs: not written yet") }

// CloseOnExec and SetCloseOnExec are FD_CLOEXEC; ok is false for a closed fd.
func (t *FDTable) CloseOnExec(fd int32) (on, ok bool)         { panic("vfs: not written yet") }
func (t *FDTable) SetCloseOnExec(fd int32, on bool) (ok bool) { panic("vfs: not written yet") }

// Fork is a copy (clone without CLONE_FILES); IncRef/DecRef share it (CLONE_FILES);
// the last DecRef closes everything.
func (t *FDTable) Fork() *FDTable { panic("vfs: not written yet") }
func (t *FDTable) IncRef()        { panic("vfs: not written yet") }
func (t *FDTable) DecRef()        { panic("vfs: not written yet") }

// Exec closes the close-on-exec descriptors.
func (t *FDTable) Exec() { panic("vfs: not written yet") }

// Range calls f for each open descriptor in order until it returns false.
func (t *FDTable) Range(f func(fd int32, file *File, cloexec bool) bool) {
	panic("vfs: not written yet")
}
