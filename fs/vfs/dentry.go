package vfs

import (
	"sync"
	"sync/atomic"
	"weak"

	"golang.org/x/sys/unix"

	"kiln/kernel/wait"
)

// ringSize is how many recently used entries stay cached without a user.
const ringSize = 4096

// maxDepth bounds how deep a directory can be: beyond it a path of PATH_MAX bytes does
// not reach, and a program could not be stopped from growing the chain for ever.
const maxDepth = 16384

// Super is one instance of a file system in the tree.
type Super struct {
	FS     FileSystem
	Dev    uint64
	modify SleepLock
	root   *Dentry
}

var lastDev atomic.Uint64

// AllocDev gives an anonymous device number (major 0) for a new file system.
func AllocDev() uint64 { return lastDev.Add(1) + 0x10 }

// NewSuper wraps a file system.
func NewSuper(fs FileSystem) *Super {
	s := &Super{FS: fs}
	s.root = &Dentry{super: s, inode: fs.Root()}
	s.root.loc.Store(&location{})
	if a, err := fs.Root().Attr(nil); err == nil {
		s.Dev = a.Dev
	}
	return s
}

// Dentry is a name in the tree and the inode it leads to; a negative one remembers
// that the name does not exist.
type Dentry struct {
	super  *Super
	inode  Inode // nil: negative
	loc    atomic.Pointer[location]
	mounts atomic.Int32 // mounts on this entry
	depth  int32

	mu   sync.Mutex
	kids map[string]weak.Pointer[Dentry]
	// version counts changes to the directory, so that a look-up that ran beside
	// one does not enter what it saw.
	version uint64
	swept   int // len(kids) after the last sweep
}

// location is where a dentry stands; replaced as one by rename and unlink.
type location struct {
	parent *Dentry // nil: the root of its file system
	name   string
	gone   bool // unlinked
}

// Inode is what the name leads to.
func (d *Dentry) Inode() Inode { return d.inode }

// ring keeps recently used entries alive: the dentry cache's bound.
type dcache struct {
	mu   sync.Mutex
	ring [ringSize]*Dentry
	next int
	// old are negative entries that fell out. Nobody can hold one, so they leave
	// their directory at once and do not wait for the collector; the next look-up,
	// which holds no lock yet, does it.
	old  []*Dentry
	some atomic.Bool
}

var cache dcache

func (c *dcache) keep(d *Dentry) {
	c.mu.Lock()
	if o := c.ring[c.next]; o != nil && o.inode == nil {
		c.old = append(c.old, o)
		c.some.Store(true)
	}
	c.ring[c.next] = d
	c.next = (c.next + 1) % ringSize
	c.mu.Unlock()
}

// trim removes the negative entries that fell out of the ring. Called without locks.
func (c *dcache) trim() {
	c.mu.Lock()
	old := c.old
	c.old = nil
	c.some.Store(false)
	c.mu.Unlock()
	for _, o := range old {
		l := o.loc.Load()
		d := l.parent
		d.mu.Lock()
		if d.kids[l.name].Value() == o {
			delete(d.kids, l.name)
		}
		d.mu.Unlock()
	}
}

// DropCaches lets go of unused entries (drop_caches, tests).
func DropCaches() {
	cache.mu.Lock()
	clear(cache.ring[:])
	cache.mu.Unlock()
}

// cached is the entry for name if there is one, and the directory's version.
func (d *Dentry) cached(name string) (*Dentry, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := d.kids[name]; ok {
		if k := w.Value(); k != nil {
			return k, d.version
		}
	}
	return nil, d.version
}

// enter caches what a look-up at version found; it returns the entry that is in the
// cache then, nil if the directory changed and the look-up must run again.
func (d *Dentry) enter(name string, i Inode, version uint64) *Dentry {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := d.kids[name]; ok {
		if k := w.Value(); k != nil {
			return k
		}
	}
	if d.version != version {
		return nil
	}
	return d.put(name, i)
}

// put makes and caches an entry. Called with mu held.
func (d *Dentry) put(name string, i Inode) *Dentry {
	k := &Dentry{super: d.super, inode: i, depth: d.depth + 1}
	k.loc.Store(&location{parent: d, name: name})
	d.store(name, k)
	return k
}

// store caches k under name. Called with mu held.
func (d *Dentry) store(name string, k *Dentry) {
	if d.kids == nil {
		d.kids = map[string]weak.Pointer[Dentry]{}
	}
	if len(d.kids) > 2*d.swept+64 {
		// A new map: an old one never gives its memory back.
		live := map[string]weak.Pointer[Dentry]{}
		for n, w := range d.kids {
			if w.Value() != nil {
				live[n] = w
			}
		}
		d.kids, d.swept = live, len(live)
	}
	d.kids[name] = weak.Make(k)
	cache.keep(k)
}

// child looks name up in directory d, through the cache. A negative entry comes back
// with a nil inode.
func (d *Dentry) child(c wait.Context, name string) (*Dentry, error) {
	if len(name) > unix.NAME_MAX {
		return nil, unix.ENAMETOOLONG
	}
	if cache.some.Load() {
		cache.trim()
	}
	if u, ok := d.inode.(Uncached); ok && u.Uncached() {
		return d.uncachedChild(c, name)
	}
	for {
		k, v := d.cached(name)
		if k != nil {
			return k, nil
		}
		if d.loc.Load().gone {
			return nil, unix.ENOENT
		}
		i, err := d.inode.Lookup(c, name)
		if err != nil && err != unix.ENOENT {
			return nil, err
		}
		if k := d.enter(name, i, v); k != nil {
			return k, nil
		}
	}
}

// uncachedChild keeps an entry only while it names the same inode, so that mounts on
// /proc/x work and /proc/42 never outlives process 42.
func (d *Dentry) uncachedChild(c wait.Context, name string) (*Dentry, error) {
	i, err := d.inode.Lookup(c, name)
	if err != nil && err != unix.ENOENT {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := d.kids[name]; ok {
		if k := w.Value(); k != nil && (k.inode == i || k.mounts.Load() > 0) {
			return k, nil
		}
	}
	if i == nil {
		k := &Dentry{super: d.super, depth: d.depth + 1}
		k.loc.Store(&location{parent: d, name: name})
		return k, nil
	}
	return d.put(name, i), nil
}

// born records that name now leads to i (create, link, mkdir).
func (d *Dentry) born(name string, i Inode) *Dentry {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version++
	return d.put(name, i)
}

// died records that k is no longer an entry of d.
func (d *Dentry) died(k *Dentry) {
	d.mu.Lock()
	l := k.loc.Load()
	d.version++
	delete(d.kids, l.name)
	k.loc.Store(&location{parent: l.parent, name: l.name, gone: true})
	d.mu.Unlock()
}

// moved records a rename of k to name in nd; over is what it replaced, if anything.
func moved(k, nd *Dentry, name string, over *Dentry, exchange bool) {
	od, l := k.loc.Load().parent, k.loc.Load()
	if exchange {
		od.mu.Lock()
		od.version++
		over.loc.Store(&location{parent: od, name: l.name})
		od.store(l.name, over)
		od.mu.Unlock()
	} else {
		if over != nil {
			nd.died(over)
		}
		od.mu.Lock()
		od.version++
		delete(od.kids, l.name)
		od.mu.Unlock()
	}
	nd.mu.Lock()
	nd.version++
	k.loc.Store(&location{parent: nd, name: name})
	k.depth = nd.depth + 1
	nd.store(name, k)
	nd.mu.Unlock()
}

// within says whether d is a or below it.
func (d *Dentry) within(a *Dentry) bool {
	for ; d != nil; d = d.loc.Load().parent {
		if d == a {
			return true
		}
	}
	return false
}
