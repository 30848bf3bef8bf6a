// Package catalogue finds the entries of apps/.
package catalogue

import (
	"errors"
	"fmt"
	"io/fs"
	"sort"

	"kiln/capstan/manifest"
)

// Catalogue is a folder of entries, each a folder with a manifest.
type Catalogue struct{ fsys fs.FS }

// New is the catalogue in a folder.
func New(fsys fs.FS) *Catalogue { return &Catalogue{fsys} }

// Names are the entries in order.
func (c *Catalogue) Names() []string {
	ents, err := fs.ReadDir(c.fsys, ".")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range ents {
		if _, err := fs.Stat(c.fsys, e.Name()+"/"+manifest.FileName); err == nil {
			out = append(out, e.Name())
		}
	}
	sort.Strings(out)
	return out
}

// Load is an entry's manifest; the error is fs.ErrNotExist if there is no such entry.
func (c *Catalogue) Load(name string) (*manifest.Manifest, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrNotExist
	}
	dir, err := fs.Sub(c.fsys, name)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	m, err := manifest.Load(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the catalogue's %s: %w", name, err)
	}
	return m, err
}

// Closest is the candidate most like a word that somebody typed, "" if none is.
func Closest(word string, candidates []string) string {
	best, at := "", len(word)/3+2 // at most so many letters may differ
	for _, c := range candidates {
		if d := distance(word, c); d < at {
			best, at = c, d
		}
	}
	return best
}

// distance is how many letters must be changed, added or left out to make b of a, with
// two neighbours swapped counting once.
func distance(a, b string) int {
	prev2, prev, cur := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, make([]int, len(b)+1)
	}
	return prev[len(b)]
}
