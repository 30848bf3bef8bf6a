package anon

import (
	"golang.org/x/sys/unix"

	"kiln/fs/vfs"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// Ruleset is the descriptor of a vfs.Ruleset.
type Ruleset struct {
	Base
	*vfs.Ruleset
}

// NewRuleset makes one that handles rights (LANDLOCK_ACCESS_FS_*). ENOMEM.
func NewRuleset(b *mm.Budget, rights uint16) (*vfs.File, error) {
	r, err := vfs.NewRuleset(b, rights)
	if err != nil {
		return nil, err
	}
	return newFile(&Ruleset{Ruleset: r}, 0, "[landlock-ruleset]"), nil
}

// Read and Write implement vfs.FileOps: EINVAL, as Linux' do, which are there for the
// access mode alone.
func (r *Ruleset) Read(wait.Context, *vfs.File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EINVAL
}

// Write implements vfs.FileOps.
func (r *Ruleset) Write(wait.Context, *vfs.File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EINVAL
}

// Release implements vfs.FileOps.
func (r *Ruleset) Release(*vfs.File) { r.Close() }
