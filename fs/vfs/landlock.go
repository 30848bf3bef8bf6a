package vfs

import (
	"maps"
	"math/bits"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"kiln/kernel/mm"
)

// What landlock(7) can allow or deny, version 2 of its interface (Linux 6.1).
const (
	accessFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	// LandlockAll is every right, LandlockABI the version.
	LandlockAll = 1<<landlockRights - 1
	LandlockABI = 2

	landlockRights = 14
	// moving a file to another directory is denied by who does not handle it, too.
	deniedFirst = unix.LANDLOCK_ACCESS_FS_REFER
	// maxDomains is LANDLOCK_MAX_NUM_LAYERS.
	maxDomains = 16

	ruleCost, domainCost = 96, 256
)

// Ruleset is what landlock_create_ruleset makes: the rights it handles, and what it allows
// at and below which nodes.
type Ruleset struct {
	handled uint16
	budget  *mm.Budget

	mu      sync.Mutex
	rules   map[Inode]uint16 // copied when it is shared
	shared  bool
	charged int64
}

// NewRuleset handles rights. ENOMEM.
func NewRuleset(b *mm.Budget, handled uint16) (*Ruleset, error) {
	if !b.Charge(domainCost) {
		return nil, unix.ENOMEM
	}
	return &Ruleset{handled: handled, budget: b, rules: map[Inode]uint16{}, charged: domainCost}, nil
}

// Handled are the rights that it handles.
func (r *Ruleset) Handled() uint16 { return r.handled }

// Close gives back what the ruleset cost.
func (r *Ruleset) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.budget.Uncharge(r.charged)
	r.charged = 0
}

// Allow adds a rule: EINVAL for rights of directories on a file, ENOMEM.
func (r *Ruleset) Allow(p Path, rights uint16) error {
	if !p.Entry.isDir() && rights&^accessFile != 0 {
		return unix.EINVAL
	}
	rights |= LandlockAll &^ (r.handled | deniedFirst)
	r.mu.Lock()
	defer r.mu.Unlock()
	i := p.Entry.inode
	_, known := r.rules[i]
	if !known && !r.budget.Charge(ruleCost) {
		return unix.ENOMEM
	}
	if !known {
		r.charged += ruleCost
	}
	if r.shared {
		r.rules, r.shared = maps.Clone(r.rules), false
	}
	r.rules[i] |= rights
	return nil
}

// Domain is what a thread is confined to: one ruleset after the other, each of which must
// allow what is done.
type Domain struct {
	parent *Domain
	layers []layer // of the parents first
}

type layer struct {
	handled uint16
	rules   map[Inode]uint16 // not changed any more
}

// Confine is the domain of who is confined to d, nil for nobody yet, and to r from now on:
// E2BIG for too many, ENOMEM.
func (d *Domain) Confine(r *Ruleset) (*Domain, error) {
	n := &Domain{parent: d}
	if d != nil {
		n.layers = d.layers
	}
	if len(n.layers) >= maxDomains {
		return nil, unix.E2BIG
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	cost := domainCost + int64(len(r.rules))*ruleCost
	if !r.budget.Charge(cost) {
		return nil, unix.ENOMEM
	}
	r.shared = true
	n.layers = append(n.layers[:len(n.layers):len(n.layers)], layer{r.handled, r.rules})
	b := r.budget
	runtime.AddCleanup(n, func(cost int64) { b.Uncharge(cost) }, cost)
	return n, nil
}

// Within says whether d is o or was confined further from it: whether who is in o may
// trace who is in d. Nobody is within nil.
func (d *Domain) Within(o *Domain) bool {
	for ; d != nil; d = d.parent {
		if d == o {
			return true
		}
	}
	return o == nil
}

// denials are, for each right, the layers that have not allowed it yet, as bits.
type denials [landlockRights]uint16

// none says whether everything is allowed.
func (m *denials) none() bool { return *m == denials{} }

// deny is what the domain denies of rights before any rule, and which of them it handles
// (init_layer_masks).
func (d *Domain) deny(rights uint16) (m denials, handled uint16) {
	for i := range d.layers {
		here := rights & (d.layers[i].handled | deniedFirst)
		handled |= here
		for ; here != 0; here &= here - 1 {
			m[bits.TrailingZeros16(here)] |= 1 << i
		}
	}
	return m, handled
}

// handles are all rights that some layer handles.
func (d *Domain) handles() uint16 {
	h := uint16(deniedFirst)
	for i := range d.layers {
		h |= d.layers[i].handled
	}
	return h
}

// unmask takes off m what the rules for a node allow of rights, and says whether that was
// the last of it (unmask_layers).
func (d *Domain) unmask(i Inode, rights uint16, m *denials) bool {
	if rights == 0 || m == nil {
		return true
	}
	for n := range d.layers {
		for got := d.layers[n].rules[i] & rights; got != 0; got &= got - 1 {
			m[bits.TrailingZeros16(got)] &^= 1 << n
		}
	}
	for ; rights != 0; rights &= rights - 1 {
		if m[bits.TrailingZeros16(rights)] != 0 {
			return false
		}
	}
	return true
}

// confined is EACCES unless the caller's domain allows rights at p.
func (ns *Namespace) confined(l *Lookup, p Path, rights uint16) error {
	if l.Creds == nil || l.Creds.Domain == nil {
		return nil
	}
	d := l.Creds.Domain
	m, rights := d.deny(rights)
	if rights == 0 {
		return nil
	}
	allowed := false
	ns.upwards(p, func(i Inode) bool {
		allowed = d.unmask(i, rights, &m)
		return !allowed
	})
	if !allowed {
		return unix.EACCES
	}
	return nil
}

// upwards calls f with p's node and those above it, through mounts, until it says false.
// Nodes that a mount covers are left out.
func (ns *Namespace) upwards(p Path, f func(i Inode) bool) {
	for f(p.Entry.inode) {
		for p.Entry == p.Mount.Root {
			at, ok := ns.under(p)
			if !ok {
				return
			}
			p = at
		}
		up := p.Entry.loc.Load().parent
		if up == nil {
			return
		}
		p.Entry = up
	}
}

// makeRight is the right to make a node of a mode (get_mode_access).
func makeRight(mode uint32) uint16 {
	switch mode & unix.S_IFMT {
	case 0, unix.S_IFREG:
		return unix.LANDLOCK_ACCESS_FS_MAKE_REG
	case unix.S_IFDIR:
		return unix.LANDLOCK_ACCESS_FS_MAKE_DIR
	case unix.S_IFLNK:
		return unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	case unix.S_IFCHR:
		return unix.LANDLOCK_ACCESS_FS_MAKE_CHAR
	case unix.S_IFBLK:
		return unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	case unix.S_IFIFO:
		return unix.LANDLOCK_ACCESS_FS_MAKE_FIFO
	case unix.S_IFSOCK:
		return unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
	}
	return 0
}

// removeRight is the right to remove d, 0 if there is nothing (maybe_remove).
func removeRight(d *Dentry) uint16 {
	switch {
	case d == nil || d.inode == nil:
		return 0
	case d.isDir():
		return unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	}
	return unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
}

// openRight are the rights to open f, or to execute it.
func openRight(f *File, exec bool) uint16 {
	rights := uint16(0)
	if f.Readable() {
		if f.Path.Entry.isDir() {
			return unix.LANDLOCK_ACCESS_FS_READ_DIR
		}
		rights = unix.LANDLOCK_ACCESS_FS_READ_FILE
	}
	if f.Writable() {
		rights |= unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	}
	if exec {
		rights |= unix.LANDLOCK_ACCESS_FS_EXECUTE
	}
	return rights
}

// mayRefer is EACCES or EXDEV unless the caller's domain lets old go from its directory to
// another, or get a name there; moved says that it loses its own, exchange that what is at
// the other name comes back (current_check_refer_path).
func (ns *Namespace) mayRefer(l *Lookup, m *Mount, old, dir, new *Dentry, moved, exchange bool) error {
	if l.Creds == nil || l.Creds.Domain == nil {
		return nil
	}
	r := referral{d: l.Creds.Domain, old: old}
	if exchange {
		r.new = new
		r.from.rights = makeRight(new.kind)
	}
	r.to.rights = makeRight(old.kind)
	if moved {
		r.from.rights |= removeRight(old)
		r.to.rights |= removeRight(new)
	}
	parent := old.loc.Load().parent
	if parent == dir {
		return ns.confined(l, Path{m, dir}, r.from.rights|r.to.rights)
	}
	r.from.rights |= unix.LANDLOCK_ACCESS_FS_REFER
	r.to.rights |= unix.LANDLOCK_ACCESS_FS_REFER
	if old == m.Root || parent == nil {
		parent = old // nothing is above it
	}
	a := r.d.collect(m.Root, parent, &r.from.m)
	b := r.d.collect(m.Root, dir, &r.to.m)
	if a && b || r.allowed(ns, Path{m, m.Root}) {
		return nil
	}
	for _, s := range [...]*referralSide{&r.from, &r.to} {
		for rights := s.rights &^ unix.LANDLOCK_ACCESS_FS_REFER; rights != 0; rights &= rights - 1 {
			if s.m[bits.TrailingZeros16(rights)] != 0 {
				return unix.EACCES
			}
		}
	}
	return unix.EXDEV
}

// collect is what the domain denies of all rights in a directory, as far as the rules
// between it and the root of its mount say; true if that is nothing.
func (d *Domain) collect(root, dir *Dentry, m *denials) bool {
	all, handled := d.deny(LandlockAll)
	*m = all
	for {
		if d.unmask(dir.inode, handled, m) {
			return true
		}
		up := dir.loc.Load().parent
		if dir == root || up == nil {
			return false
		}
		dir = up
	}
}

// referral is a file that goes from one directory to another, with what is still denied on
// both sides.
type referral struct {
	d        *Domain
	old, new *Dentry // new: of an exchange
	from, to referralSide
}

type referralSide struct {
	rights uint16
	m      denials
}

// allowed goes up from the root of the mount (is_access_to_paths_allowed for two parents).
func (r *referral) allowed(ns *Namespace, p Path) bool {
	d := r.d
	whole := true // everything the domain handles is compared, and not what is asked for
	masked := [2]uint16{d.handles(), d.handles()}
	child := func(c *Dentry) *denials {
		if c == nil {
			return nil
		}
		m, handled := d.deny(LandlockAll)
		d.unmask(c.inode, handled, &m)
		return &m
	}
	old, new := child(r.old), child(r.new)
	from, to := false, false
	ns.upwards(p, func(i Inode) bool {
		if whole && r.noMore(old, new) {
			from, to = r.from.scope(), r.to.scope()
			if from && to {
				return false
			}
			whole = false
			masked = [2]uint16{r.from.rights, r.to.rights}
		}
		from = d.unmask(i, masked[0], &r.from.m)
		to = d.unmask(i, masked[1], &r.to.m)
		return !from || !to
	})
	return from && to
}

// scope forgets what is denied and not asked for; true if that leaves nothing.
func (s *referralSide) scope() bool {
	for n := range s.m {
		if s.rights>>n&1 == 0 {
			s.m[n] = 0
		}
	}
	return s.m.none()
}

// noMore says that nothing can be done with the files behind the move that could not be done
// before (no_more_access).
func (r *referral) noMore(old, new *denials) bool {
	oldDir := r.old.isDir()
	newDir := r.new != nil && r.new.isDir()
	for n := range r.to.m {
		file := accessFile>>n&1 != 0
		if (oldDir || file) && r.from.m[n]&old[n]&^r.to.m[n] != 0 {
			return false
		}
		if new != nil && (newDir || file) && r.to.m[n]&new[n]&^r.from.m[n] != 0 {
			return false
		}
	}
	return true
}
