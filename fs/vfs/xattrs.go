package vfs

import (
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// maxXattrs bounds the extended attributes of one node in an XattrStore, bytes.
const maxXattrs = 65536

// xattrCost is the cost of one beside its name and value, bytes.
const xattrCost = 64

// XattrStore holds the extended attributes of a node in memory. Its user has a lock for it.
type XattrStore struct {
	m    map[string][]byte
	size int
}

// Size is what the attributes cost, bytes.
func (x *XattrStore) Size() int64 { return int64(x.size) }

// Get gives a value: ENODATA.
func (x *XattrStore) Get(name string) ([]byte, error) {
	if v, ok := x.m[name]; ok {
		return v, nil
	}
	return nil, unix.ENODATA
}

// Set stores one, as the flags of setxattr(2) want it: EEXIST, ENODATA, ENOSPC. charge is asked
// for the bytes that it costs more; uncharge is told of those that it costs less.
func (x *XattrStore) Set(name string, value []byte, flags int, charge func(int64) bool, uncharge func(int64)) error {
	old, have := x.m[name]
	switch {
	case have && flags&unix.XATTR_CREATE != 0:
		return unix.EEXIST
	case !have && flags&unix.XATTR_REPLACE != 0:
		return unix.ENODATA
	}
	more := len(value) - len(old)
	if !have {
		more += len(name) + xattrCost
	}
	if x.size+more > maxXattrs || more > 0 && !charge(int64(more)) {
		return unix.ENOSPC
	}
	if more < 0 {
		uncharge(int64(-more))
	}
	x.size += more
	if x.m == nil {
		x.m = map[string][]byte{}
	}
	x.m[strings.Clone(name)] = append([]byte(nil), value...)
	return nil
}

// Remove takes one away: ENODATA.
func (x *XattrStore) Remove(name string, uncharge func(int64)) error {
	v, ok := x.m[name]
	if !ok {
		return unix.ENODATA
	}
	n := len(v) + len(name) + xattrCost
	x.size -= n
	uncharge(int64(n))
	delete(x.m, name)
	return nil
}

// Names are sorted.
func (x *XattrStore) Names() []string {
	out := make([]string, 0, len(x.m))
	for n := range x.m {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}
