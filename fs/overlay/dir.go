package overlay

import (
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/tmpfs"
	"kiln/fs/vfs"
	"kiln/kernel/wait"
)

const all = int64(1<<63 - 1)

// inLower finds a name in the lower half of a directory, unless it is hidden.
func (i *Inode) inLower(c wait.Context, name string) (vfs.Slotted, error) {
	if i.lower == nil {
		return nil, unix.ENOENT
	}
	i.mu.Lock()
	_, hidden := i.hidden[name]
	i.mu.Unlock()
	if hidden {
		return nil, unix.ENOENT
	}
	l, err := i.lower.Lookup(c, name)
	if err != nil {
		return nil, err
	}
	return l.(vfs.Slotted), nil
}

// inUpper finds a name in the upper half.
func (i *Inode) inUpper(c wait.Context, name string) *tmpfs.Inode {
	if u := i.upper.Load(); u != nil {
		if k, err := u.Lookup(c, name); err == nil {
			return k.(*tmpfs.Inode)
		}
	}
	return nil
}

// Lookup implements vfs.Inode.
func (i *Inode) Lookup(c wait.Context, name string) (vfs.Inode, error) {
	if i.kind != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	if u := i.inUpper(c, name); u != nil {
		return i.fs.fromUpper(u), nil
	}
	l, err := i.inLower(c, name)
	if err != nil {
		return nil, err
	}
	k, err := i.fs.fromLower(c, l, i, name)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// hide makes the lower node of a name invisible, if there is one.
func (i *Inode) hide(c wait.Context, name string) {
	if _, err := i.inLower(c, name); err != nil {
		return
	}
	i.mu.Lock()
	if i.hidden == nil {
		i.hidden = map[string]struct{}{}
	}
	i.hidden[strings.Clone(name)] = struct{}{}
	i.mu.Unlock()
}

// Create implements vfs.Inode.
func (i *Inode) Create(c wait.Context, name string, n vfs.NewNode) (vfs.Inode, error) {
	if err := i.copyUp(c, all); err != nil {
		return nil, err
	}
	u, err := i.upper.Load().CreateWith(name, n, nil)
	if err != nil {
		return nil, err
	}
	return i.fs.fromUpper(u), nil
}

// Tmpfile implements vfs.TmpfileCreator: a node open once, without a name.
func (i *Inode) Tmpfile(c wait.Context, n vfs.NewNode) (vfs.Inode, error) {
	if err := i.copyUp(c, all); err != nil {
		return nil, err
	}
	t, err := i.upper.Load().Tmpfile(c, n)
	if err != nil {
		return nil, err
	}
	k := i.fs.fromUpper(t.(*tmpfs.Inode))
	k.opens = 1 // stands for the one the upper half was made with
	return k, nil
}

// Link implements vfs.Inode.
func (i *Inode) Link(c wait.Context, name string, target vfs.Inode) error {
	k, ok := target.(*Inode)
	if !ok || k.fs != i.fs {
		return unix.EXDEV
	}
	k.mu.Lock()
	gone := k.gone.Load() && k.upper.Load() == nil
	k.mu.Unlock()
	if gone {
		return unix.ENOENT
	}
	if err := k.copyUp(c, all); err != nil {
		return err
	}
	if err := i.copyUp(c, all); err != nil {
		return err
	}
	return i.upper.Load().Link(c, name, k.upper.Load())
}

// empty says whether a directory shows no entries.
func (i *Inode) empty(c wait.Context) (bool, error) {
	any, pos, mark := false, int64(0), int64(0)
	err := i.list(c, &mark, &pos, func(e vfs.Dirent) bool {
		any = any || e.Name != "." && e.Name != ".."
		return !any
	})
	return !any, err
}

// Remove implements vfs.Inode.
func (i *Inode) Remove(c wait.Context, name string, victim vfs.Inode, dir bool) error {
	v := victim.(*Inode)
	if dir {
		if ok, err := v.empty(c); err != nil || !ok {
			if err == nil {
				err = unix.ENOTEMPTY
			}
			return err
		}
	}
	if err := i.copyUp(c, all); err != nil {
		return err
	}
	if err := i.drop(c, name, v, dir); err != nil {
		return err
	}
	i.hide(c, name)
	return nil
}

// drop takes an upper name away; a node without an upper half is only marked.
func (i *Inode) drop(c wait.Context, name string, v *Inode, dir bool) error {
	if u := i.inUpper(c, name); u != nil {
		return i.upper.Load().Remove(c, name, u, dir)
	}
	v.up.Lock(c) // not while it is being copied up to this name
	defer v.up.Unlock()
	if u := i.inUpper(c, name); u != nil {
		return i.upper.Load().Remove(c, name, u, dir)
	}
	v.lose()
	return nil
}

// lose marks a node without an upper half as gone. Called with up held.
func (i *Inode) lose() {
	i.mu.Lock()
	i.gone.Store(true)
	i.mu.Unlock()
}

// Rename implements vfs.Inode.
func (i *Inode) Rename(c wait.Context, oldName string, src vfs.Inode, newDir vfs.Inode, newName string, dst vfs.Inode, exchange bool) error {
	s := src.(*Inode)
	nd, ok := newDir.(*Inode)
	if !ok || nd.fs != i.fs {
		return unix.EXDEV
	}
	d, _ := dst.(*Inode)
	up := []*Inode{i, nd, s}
	if d != nil && exchange {
		up = append(up, d)
	}
	for _, k := range up {
		if err := k.copyUp(c, all); err != nil {
			return err
		}
	}
	var over vfs.Inode
	var lost *Inode
	if d != nil {
		if d.kind == unix.S_IFDIR && !exchange {
			if ok, err := d.empty(c); err != nil || !ok {
				if err == nil {
					err = unix.ENOTEMPTY
				}
				return err
			}
		}
		// Until it is replaced, one without an upper half is not copied up to this name.
		d.up.Lock(c)
		defer d.up.Unlock()
		if u := nd.inUpper(c, newName); u != nil {
			over = u
		} else {
			lost = d
		}
	}
	if err := i.upper.Load().Rename(c, oldName, s.upper.Load(), nd.upper.Load(), newName, over, exchange); err != nil {
		return err
	}
	if lost != nil {
		lost.lose()
	}
	i.hide(c, oldName)
	nd.hide(c, newName)
	return nil
}

// Cookies of the lower half have this bit clear, those of the upper half have it set.
const upperHalf = int64(1) << 60

// nothing is a cookie behind the last upper entry.
const nothing = upperHalf - 1

// list implements vfs.DirOps.List: first the lower names that are not hidden, whether
// copied up or not, then the upper names that are not among them. So a copy-up between
// two calls neither loses a name nor shows it twice. mark remembers where the upper half
// ended when the listing began: what came since, such as lower names that the program
// renames as it goes, is not shown.
func (i *Inode) list(c wait.Context, mark, pos *int64, emit func(e vfs.Dirent) bool) error {
	stopped := false
	if *pos == 0 && i.lower != nil {
		*mark = nothing
		if u := i.upper.Load(); u != nil {
			*mark = u.Mark()
		}
	}
	if i.lower != nil && *pos < upperHalf {
		err := i.half(c, i.lower, pos, func(e vfs.Dirent) bool {
			i.mu.Lock()
			_, hidden := i.hidden[e.Name]
			i.mu.Unlock()
			stopped = !hidden && !emit(e)
			return !stopped
		})
		if err != nil || stopped {
			return err
		}
	}
	u := i.upper.Load()
	if u == nil {
		return nil
	}
	p := max(*pos, upperHalf) - upperHalf
	if p == 0 && i.lower != nil {
		p = *mark
	}
	err := i.half(c, u, &p, func(e vfs.Dirent) bool {
		if i.lower != nil {
			if e.Name == "." || e.Name == ".." {
				return true
			}
			if _, err := i.inLower(c, e.Name); err == nil {
				return true
			}
		}
		if k := i.inUpper(c, e.Name); k != nil {
			e.Ino = i.fs.fromUpper(k).ino
		} else {
			e.Ino += upperIno
		}
		e.Next |= upperHalf
		return emit(e)
	})
	*pos = p | upperHalf
	return err
}

// half lists one half.
func (i *Inode) half(c wait.Context, d vfs.Inode, pos *int64, emit func(e vfs.Dirent) bool) error {
	ops, err := d.Open(c, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer ops.Release(nil)
	return ops.Iterate(c, pos, emit)
}
