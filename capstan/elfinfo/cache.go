package elfinfo

import (
	"encoding/binary"
	"sort"
	"strings"
)

// CachePath is where ld.so looks for its cache.
const CachePath = "/etc/ld.so.cache"

// Cache are the paths that an ld.so.cache is to name: where ld.so looks for any program,
// and elsewhere what one file alone has the name of. Of several that programs keep for
// themselves none is to be another program's.
func (c *Closure) Cache() map[string]string {
	best := map[string]Library{}
	several := map[string]bool{}
	for _, l := range c.order {
		old, ok := best[l.Name]
		switch {
		case strings.Contains(l.Name, "/") || ok && old.Default:
		case !ok || l.Default:
			best[l.Name] = l
		case l.Real != old.Real:
			several[l.Name] = true
		}
	}
	paths := map[string]string{}
	for name, l := range best {
		if l.Default || !several[name] {
			paths[name] = l.Path
		}
	}
	return paths
}

// LoaderCache encodes an ld.so.cache in glibc's format 1.1 (dl-cache.h: a 48-byte
// header, entries of 24 bytes, strings) that gives each library's path by its name.
// With it ld.so opens a library at once, where it would else try a dozen folders,
// and also finds those that only the ld.so.conf of the place they came from names.
func LoaderCache(paths map[string]string) []byte {
	names := make([]string, 0, len(paths))
	for n := range paths {
		names = append(names, n)
	}
	// ld.so searches by halves; the largest name comes first.
	sort.Slice(names, func(i, j int) bool { return cacheCompare(names[i], names[j]) > 0 })

	const header, entry = 48, 24
	le := binary.LittleEndian
	var strs []byte
	out := make([]byte, 0, header+entry*len(names)+64*len(names))
	out = append(out, "glibc-ld.so.cache1.1"...)
	out = le.AppendUint32(out, uint32(len(names)))
	out = le.AppendUint32(out, 0) // length of the strings, below
	out = append(out, 2)          // little endian (cache_file_new_flags_endian_little)
	out = append(out, make([]byte, header-len(out))...)
	base := uint32(header + entry*len(names)) // offsets count from the file's start
	add := func(s string) uint32 {
		off := base + uint32(len(strs))
		strs = append(append(strs, s...), 0)
		return off
	}
	for _, n := range names {
		const libcX8664 = 0x0303 // FLAG_ELF_LIBC6 | FLAG_X8664_LIB64
		out = le.AppendUint32(out, libcX8664)
		out = le.AppendUint32(out, add(n))
		out = le.AppendUint32(out, add(paths[n]))
		out = le.AppendUint32(out, 0) // osversion
		out = le.AppendUint64(out, 0) // hwcap
	}
	le.PutUint32(out[24:], uint32(len(strs)))
	return append(out, strs...)
}

// cacheCompare orders names as glibc's _dl_cache_libcmp: runs of digits by value, a
// digit after any other byte.
func cacheCompare(a, b string) int {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for a != "" {
		switch {
		case b == "":
			return 1
		case digit(a[0]) && digit(b[0]):
			va, ra := number(a)
			vb, rb := number(b)
			if va != vb {
				if va < vb {
					return -1
				}
				return 1
			}
			a, b = ra, rb
		case digit(a[0]):
			return 1
		case digit(b[0]):
			return -1
		case a[0] != b[0]:
			return int(a[0]) - int(b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	if b == "" {
		return 0
	}
	return -1
}

func number(s string) (v int, rest string) {
	for s != "" && s[0] >= '0' && s[0] <= '9' {
		v, s = v*10+int(s[0]-'0'), s[1:]
	}
	return v, s
}
