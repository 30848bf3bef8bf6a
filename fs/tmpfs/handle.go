package tmpfs

import (
	"encoding/binary"
	"slices"

	"kiln/fs/vfs"
)

// handleSize is what shmem_encode_fh makes: generation, and both halves of the number.
const handleSize = 12

// generation tells a node from those that had its number in other instances.
func (i *Inode) generation() uint32 { return uint32(i.btime>>10) ^ uint32(i.fs.dev) }

// Handle implements vfs.Exporter.
func (fs *FS) Handle(n vfs.Inode) []byte {
	i, ok := n.(*Inode)
	if !ok {
		return nil
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, handleSize), i.generation())
	return binary.LittleEndian.AppendUint64(b, i.ino)
}

// Find implements vfs.Exporter. It goes through the whole tree: handles are rare, and an
// index would cost every node.
func (fs *FS) Find(h []byte) (names []string, ok bool) {
	if len(h) < handleSize {
		return nil, false
	}
	gen, ino := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint64(h[4:])
	type step struct {
		dir  *Inode
		from int // index of the step to its parent
		name string
	}
	found := func(i *Inode) bool { return i.ino == ino && i.generation() == gen }
	if found(fs.root) {
		return nil, true
	}
	steps := []step{{dir: fs.root, from: -1}}
	for k := 0; k < len(steps); k++ {
		d := steps[k].dir
		var last *entry
		d.mu.Lock()
		for _, e := range d.dir {
			if found(e.i) {
				last = e
				break
			}
			if e.i.dir != nil {
				steps = append(steps, step{e.i, k, e.name})
			}
		}
		d.mu.Unlock()
		if last == nil {
			continue
		}
		names = []string{last.name}
		for j := k; j > 0; j = steps[j].from {
			names = append(names, steps[j].name)
		}
		slices.Reverse(names)
		return names, true
	}
	return nil, false
}
