package procfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/fs/vfs"
	"kiln/kernel/hal"
	"kiln/kernel/mm"
	"kiln/kernel/wait"
)

// pageMapFile is /proc/PID/pagemap: 8 bytes for each page of the program's addresses.
type pageMapFile struct {
	*pseudo.File
	e *entry
}

func (e *entry) pageMapFile() vfs.Inode {
	n := e.f.NewFile(0o400, e.ino(inoPageMap), nil, nil)
	n.SetOwner(e.owner)
	return &pageMapFile{n, e}
}

// Open implements vfs.Inode: EACCES. Who opens it without CAP_SYS_ADMIN sees no frames.
func (m *pageMapFile) Open(c wait.Context, _ uint32) (vfs.FileOps, error) {
	s, err := m.e.lookAtSpace(c)
	if err != nil {
		return nil, err
	}
	t := thread(c)
	return &openPageMap{
		openMem: openMem{f: &memFile{m.File, m.e}, s: s},
		frames:  t == nil || t.Creds().Can(unix.CAP_SYS_ADMIN),
	}, nil
}

// openPageMap is one description.
type openPageMap struct {
	openMem
	frames bool
}

const pageMapEntry = 8

// pageMapEnd is where the file ends: behind the last page that a program can have.
const pageMapEnd = (1<<47 - hal.PageSize) >> hal.PageShift * pageMapEntry

// Read implements vfs.FileOps: EINVAL where position or length is not an entry's multiple.
func (o *openPageMap) Read(c wait.Context, _ *vfs.File, dst *mm.IOSeq, off int64) (int, error) {
	if o.s == nil || !o.s.TryIncUsers() {
		return 0, nil
	}
	defer o.s.DecUsers()
	if off%pageMapEntry != 0 || dst.Len()%pageMapEntry != 0 {
		return 0, unix.EINVAL
	}
	done, n := 0, int(min(int64(dst.Len()), max(pageMapEnd-off, 0)))
	var pages [512]uint64
	buf := make([]byte, min(n, len(pages)*pageMapEntry))
	for done < n {
		k := min(len(buf), n-done) / pageMapEntry
		o.s.PageMap(hal.UserAddr((off+int64(done))/pageMapEntry<<hal.PageShift), pages[:k])
		for i, p := range pages[:k] {
			if !o.frames {
				p &= ^uint64(1<<55 - 1)
			}
			binary.LittleEndian.PutUint64(buf[i*pageMapEntry:], p)
		}
		m, err := dst.CopyOut(buf[:k*pageMapEntry])
		if done += m; err != nil {
			return done, err
		}
		if t := thread(c); t != nil && t.Dying() {
			break // of a program with terabytes this takes seconds
		}
	}
	return done, nil
}

// Write implements vfs.FileOps; nobody can open it to write.
func (o *openPageMap) Write(wait.Context, *vfs.File, *mm.IOSeq, int64) (int, error) {
	return 0, unix.EINVAL
}
