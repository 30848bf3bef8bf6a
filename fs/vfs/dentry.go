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
	flags  atomic.Uint64 // superFlags
	modify SleepLock
	root   *Dentry
}

var lastDev atomic.Uint64

// AllocDev gives an anonymous device number (major 0) for a new file system.
func AllocDev() uint64 { return unix.Mkdev(0, uint32(lastDev.Add(1)+0x10)) }

// NewSuper wraps a file system.
func NewSuper(fs FileSystem) *Super {
	s := &Super{FS: fs}
	s.root = newDentry(s, fs.Root(), 0)
	s.root.loc.Store(&location{})
	if a, err := fs.Root().Attr(nil); err == nil {
		s.Dev = a.Dev
	}
	return s
}

// Dentry is a name in the tree and the inode it leads to; a negative one remembers
// that the name does not exist.
type Dentry struct {
	super *Super
	inode Inode // nil: negative
	// Of the inode, which never changes them: its S_IFMT bits (0: negative), and
	// whether it is a directory whose names are looked up each time. To ask an
	// interface value for another interface costs a search.
	kind     uint32
	uncached bool
	opener   FileOpener // the inode, if it is one
	loc      atomic.Pointer[location]
	mounts   atomic.Int32 // mounts on this entry
	depth    int32
	pins     int32       // mounts on or below it, in an uncached directory; under its mu
	used     atomic.Bool // looked up since the clock's hand last passed
	ringed   bool        // in the ring; under dcache.mu
	// hot is the entry of this directory that was found last, if the ring holds it; nil
	// in an uncached one. Written under mu, read without: most look-ups find what the
	// last one found.
	hot atomic.Pointer[Dentry]

	mu   sync.Mutex
	kids map[string]kid
	// version counts changes to the directory, so that a look-up that ran beside
	// one does not enter what it saw.
	version uint64
	swept   int // len(kids) after the last sweep
}

// kid is a directory's pointer to an entry: strong while the ring holds the entry, for a
// look-up through a weak pointer costs several times as much, weak afterwards.
type kid struct {
	strong *Dentry
	weak   weak.Pointer[Dentry]
}

// get is the entry, nil if the collector took it.
func (k *kid) get() *Dentry {
	if k.strong != nil {
		return k.strong
	}
	return k.weak.Value()
}

func newDentry(s *Super, i Inode, depth int32) *Dentry {
	d := &Dentry{super: s, inode: i, kind: typeOf(i), depth: depth}
	if u, ok := i.(Uncached); ok {
		d.uncached = u.Uncached()
	}
	d.opener, _ = i.(FileOpener)
	return d
}

// location is where a dentry stands; replaced as one by rename and unlink.
type location struct {
	parent *Dentry // nil: the root of its file system
	name   string
	gone   bool // unlinked
}

// Inode is what the name leads to.
func (d *Dentry) Inode() Inode { return d.inode }

// Kind is the type of the node, S_IF*.
func (d *Dentry) Kind() uint32 { return d.kind }

// dcache keeps recently used entries alive: the dentry cache's bound. Its ring is a clock.
type dcache struct {
	mu   sync.Mutex
	ring [ringSize]*Dentry
	next int
	// old are entries that fell out, to which their directory must not point strongly
	// any more; negative ones, which nobody can hold, leave it at once. The next
	// look-up, which holds no lock yet, sees to both.
	old  []*Dentry
	some atomic.Bool
}

var cache dcache

// maxSteps bounds how far the clock's hand looks for an entry without a recent use.
const maxSteps = 16

// keep puts d into the ring. Called with the mu of its directory held.
func (c *dcache) keep(d *Dentry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.ringed {
		return
	}
	for i := 0; i < maxSteps; i++ {
		o := c.ring[c.next]
		if o == nil || !o.used.Swap(false) {
			break
		}
		c.next = (c.next + 1) % ringSize
	}
	if o := c.ring[c.next]; o != nil {
		o.ringed = false
		c.old = append(c.old, o)
		c.some.Store(true)
	}
	d.ringed = true
	c.ring[c.next] = d
	c.next = (c.next + 1) % ringSize
}

// trim makes weak what fell out of the ring. Called without locks. An entry that is kept
// again meanwhile loses its strong pointer all the same, and gets it back with its next use.
func (c *dcache) trim() {
	c.mu.Lock()
	old := c.old
	c.old = nil
	c.some.Store(false)
	c.mu.Unlock()
	for _, o := range old {
		l := o.loc.Load()
		d := l.parent
		if d == nil {
			continue
		}
		d.mu.Lock()
		if k := d.kids[l.name]; k.strong == o {
			if o.inode == nil {
				delete(d.kids, l.name)
			} else {
				d.kids[l.name] = kid{weak: k.weak}
			}
		}
		d.hot.CompareAndSwap(o, nil)
		d.mu.Unlock()
	}
}

// forget lets go of the entries of one file system.
func (c *dcache) forget(s *Super) {
	c.mu.Lock()
	for i, o := range &c.ring {
		if o != nil && o.super == s {
			o.ringed = false
			c.old = append(c.old, o)
			c.ring[i] = nil
		}
	}
	c.mu.Unlock()
	c.trim()
}

// DropCaches lets go of unused entries (drop_caches, tests).
func DropCaches() {
	c := &cache
	c.mu.Lock()
	for i, o := range &c.ring {
		if o != nil {
			o.ringed = false
			c.old = append(c.old, o)
			c.ring[i] = nil
		}
	}
	c.mu.Unlock()
	c.trim()
}

// fast is the entry for name if it is the one found last. Without locks: the answer was
// true at the moment loc was read.
func (d *Dentry) fast(name string) *Dentry {
	if k := d.hot.Load(); k != nil {
		if l := k.loc.Load(); l.name == name && l.parent == d && !l.gone {
			k.touch()
			return k
		}
	}
	return nil
}

// cached is the entry for name if there is one, and the directory's version.
func (d *Dentry) cached(name string) (*Dentry, uint64) {
	d.mu.Lock()
	k := d.inCache(name)
	v := d.version
	d.mu.Unlock()
	return k, v
}

// inCache is the entry for name, nil if there is none, marked as used. Called with mu held.
func (d *Dentry) inCache(name string) *Dentry {
	w, ok := d.kids[name]
	if !ok {
		return nil
	}
	k := w.get()
	if k == nil {
		return nil
	}
	if w.strong == nil {
		d.kids[name] = kid{strong: k, weak: w.weak}
		cache.keep(k)
	}
	k.touch()
	d.warm(k)
	return k
}

// warm makes k what fast finds. Called with mu held.
func (d *Dentry) warm(k *Dentry) { d.hot.Store(k) }

func (d *Dentry) touch() {
	if !d.used.Load() {
		d.used.Store(true)
	}
}

// enter caches what a look-up at version found; it returns the entry that is in the
// cache then, nil if the directory changed and the look-up must run again.
func (d *Dentry) enter(name string, i Inode, version uint64) *Dentry {
	d.mu.Lock()
	defer d.mu.Unlock()
	if k := d.inCache(name); k != nil {
		return k
	}
	if d.version != version {
		return nil
	}
	return d.put(name, i)
}

// put makes and caches an entry. Called with mu held.
func (d *Dentry) put(name string, i Inode) *Dentry {
	k := newDentry(d.super, i, d.depth+1)
	k.loc.Store(&location{parent: d, name: name})
	d.store(name, k)
	return k
}

// store caches k under name. Called with mu held.
func (d *Dentry) store(name string, k *Dentry) {
	if d.kids == nil {
		d.kids = map[string]kid{}
	}
	if len(d.kids) > 2*d.swept+64 {
		// A new map: an old one never gives its memory back.
		live := map[string]kid{}
		for n, w := range d.kids {
			if w.get() != nil {
				live[n] = w
			}
		}
		d.kids, d.swept = live, len(live)
	}
	d.kids[name] = kid{strong: k, weak: weak.Make(k)}
	d.warm(k) // whatever had that name before is not found any more
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
	if d.uncached {
		return d.uncachedChild(c, name)
	}
	if k := d.fast(name); k != nil {
		return k, nil
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

// uncachedChild looks name up each time. Nothing here keeps the entry, so that /proc/42
// never outlives process 42: only an inode that stays has one that stays (Anchored), and
// what something is mounted on (pin).
func (d *Dentry) uncachedChild(c wait.Context, name string) (*Dentry, error) {
	i, err := d.inode.Lookup(c, name)
	if err != nil && err != unix.ENOENT {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if k, ok := d.kids[name]; ok {
		return k.strong, nil
	}
	var anchor *atomic.Pointer[Dentry]
	if a, ok := i.(Anchored); ok {
		anchor = a.Anchor()
		if k := anchor.Load(); k != nil {
			if l := k.loc.Load(); l.parent == d && l.name == name {
				return k, nil
			}
		}
	}
	k := newDentry(d.super, i, d.depth+1)
	k.loc.Store(&location{parent: d, name: name})
	if anchor != nil {
		anchor.Store(k)
	}
	return k, nil
}

// pin counts a mount on d (n is 1) or one that has gone (-1): directories that keep no
// entries keep those on the way to a mount.
func (d *Dentry) pin(n int32) {
	d.mounts.Add(n)
	for l := d.loc.Load(); l.parent != nil; l = d.loc.Load() {
		p := l.parent
		if p.uncached {
			p.mu.Lock()
			if d.pins += n; d.pins == 0 {
				delete(p.kids, l.name)
			} else {
				if p.kids == nil {
					p.kids = map[string]kid{}
				}
				p.kids[l.name] = kid{strong: d}
			}
			p.mu.Unlock()
		}
		d = p
	}
}

// born records that name now leads to i (create, link, mkdir). A look-up that was faster has
// made the entry already: a name has one.
func (d *Dentry) born(name string, i Inode) *Dentry {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version++
	if k := d.inCache(name); k != nil && k.inode == i {
		return k
	}
	return d.put(name, i)
}

// died records that k is no longer an entry of d.
func (d *Dentry) died(k *Dentry) {
	d.mu.Lock()
	delete(d.kids, k.loc.Load().name)
	d.lost(k)
	d.mu.Unlock()
}

// lost marks k as gone. Called with mu held; its name is given to another or to nothing
// before mu is released.
func (d *Dentry) lost(k *Dentry) {
	l := k.loc.Load()
	d.version++
	d.hot.CompareAndSwap(k, nil)
	k.loc.Store(&location{parent: l.parent, name: l.name, gone: true})
}

// moved records a rename of k to name in nd; over is what it replaced, if anything. At no
// moment does a look-up of the new name find neither of the two; between directories k is
// found under both names for a moment (rename(2)).
func moved(k, nd *Dentry, name string, over *Dentry, exchange bool) {
	l := k.loc.Load()
	od := l.parent
	if exchange {
		od.mu.Lock()
		od.version++
		over.loc.Store(&location{parent: od, name: l.name})
		od.hot.CompareAndSwap(k, nil)
		od.store(l.name, over)
		od.mu.Unlock()
	}
	nd.mu.Lock()
	nd.version++
	switch {
	case exchange:
		nd.hot.CompareAndSwap(over, nil)
	case over != nil:
		nd.lost(over)
	}
	k.loc.Store(&location{parent: nd, name: name})
	k.depth = nd.depth + 1
	if !exchange && od == nd {
		delete(nd.kids, l.name)
	}
	nd.store(name, k)
	nd.mu.Unlock()
	if !exchange && od != nd {
		od.mu.Lock()
		od.version++
		delete(od.kids, l.name)
		od.hot.CompareAndSwap(k, nil)
		od.mu.Unlock()
	}
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
