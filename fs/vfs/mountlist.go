package vfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountInfo is one line of /proc/self/mountinfo.
type MountInfo struct {
	ID, Parent         int
	Dev                uint64
	Root, Point        string
	Flags, Super       uint64 // MS_* of the mount and of its file system
	Tags               string // "shared:1 master:2 ", each with a blank behind it
	Type, Source, Opts string
}

// MountList describes the mounts that can be seen from root.
func (ns *Namespace) MountList(root Path) []MountInfo {
	ns.mu.RLock()
	list := append([]*Mount(nil), ns.list...)
	ats, tags := make([]Path, len(list)), make([]string, len(list))
	for i, m := range list {
		ats[i], tags[i] = m.at, m.tags()
	}
	ns.mu.RUnlock()
	out := make([]MountInfo, 0, len(list))
	for i, m := range list {
		e := MountInfo{ID: m.ID, Parent: 1, Dev: m.Super.Dev, Root: "/", Point: "/", Flags: m.flags.Load(), Super: m.Super.flags.Load(),
			Tags: tags[i], Type: m.Super.FS.Type(), Source: m.Source, Opts: m.Super.FS.Options()}
		if below, _ := ns.Reachable(Path{m, m.Root}, root); !below {
			continue // outside of a chroot
		}
		if m.Root != m.Super.root {
			e.Root = entryName(m.Root)
		}
		if ats[i].Valid() {
			e.Parent = ats[i].Mount.ID
			e.Point = ns.Name(Path{m, m.Root}, root)
		}
		out = append(out, e)
	}
	return out
}

// tags are the optional fields of mountinfo. Called with Namespace.mu held.
func (m *Mount) tags() string {
	s := ""
	if m.group != nil {
		s += "shared:" + strconv.Itoa(m.group.id) + " "
	}
	if m.master != nil {
		s += "master:" + strconv.Itoa(m.master.id) + " "
	}
	if m.sealed {
		s += "unbindable "
	}
	return s
}

// entryName is a dentry's path inside its file system (dentry_path).
func entryName(d *Dentry) string {
	s := ""
	if d.loc.Load().gone {
		s = "//deleted"
	}
	for l := d.loc.Load(); l.parent != nil; l = l.parent.loc.Load() {
		s = "/" + l.name + s
	}
	if s == "" {
		return "/"
	}
	return s
}

// Options are the flags of /proc/mounts.
func (m *MountInfo) Options() string {
	return access(m.Flags|m.Super) + superString(m.Super) + flagString(m.Flags)
}

// OwnOptions and SuperOptions are those of mountinfo: of the mount, and of the file system
// without its own.
func (m *MountInfo) OwnOptions() string   { return access(m.Flags) + flagString(m.Flags) }
func (m *MountInfo) SuperOptions() string { return access(m.Super) + superString(m.Super) }

func access(flags uint64) string {
	if flags&unix.MS_RDONLY != 0 {
		return "ro"
	}
	return "rw"
}

type flagName struct {
	bit  uint64
	name string
}

func named(flags uint64, names []flagName) string {
	var b strings.Builder
	for _, f := range names {
		if flags&f.bit != 0 {
			b.WriteString("," + f.name)
		}
	}
	return b.String()
}

func superString(flags uint64) string {
	return named(flags, []flagName{{unix.MS_SYNCHRONOUS, "sync"}, {unix.MS_DIRSYNC, "dirsync"}, {unix.MS_MANDLOCK, "mand"}, {unix.MS_LAZYTIME, "lazytime"}})
}

func flagString(flags uint64) string {
	return named(flags, []flagName{{unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"},
		{unix.MS_NOATIME, "noatime"}, {unix.MS_NODIRATIME, "nodiratime"}, {unix.MS_RELATIME, "relatime"}, {noSymFollow, "nosymfollow"}})
}
