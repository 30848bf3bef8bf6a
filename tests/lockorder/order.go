package lockorder

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Graph is which class of lock was taken under which, and where.
type Graph struct {
	classes Classes
	under   map[string]map[string][]string
	// Again are places where a lock was taken by one that held it.
	Again []string
	// Parked are classes of which one was held where a thread gave its CPU away.
	Parked []string
}

// NewGraph is one without edges.
func NewGraph(c Classes) *Graph { return &Graph{classes: c, under: map[string]map[string][]string{}} }

// Read adds what a watched program printed among other lines.
func (g *Graph) Read(r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		_, said, ok := strings.Cut(s.Text(), "lockorder: ")
		if !ok {
			continue
		}
		switch f := strings.Fields(said); {
		case len(f) == 4 && f[0] == "under" && f[2] == "taken":
			g.add(f[1], f[3])
		case len(f) == 2 && f[0] == "again":
			g.Again = append(g.Again, f[1])
		case len(f) == 2 && f[0] == "parked":
			if name := g.classes.at(f[1]); !slices.Contains(g.Parked, name) {
				g.Parked = append(g.Parked, name)
			}
		}
	}
	return s.Err()
}

func (g *Graph) add(under, taken string) {
	a, b := g.classes.at(under), g.classes.at(taken)
	if g.under[a] == nil {
		g.under[a] = map[string][]string{}
	}
	if where := under + " then " + taken; !slices.Contains(g.under[a][b], where) {
		g.under[a][b] = append(g.under[a][b], where)
	}
}

// Len is the number of pairs of classes.
func (g *Graph) Len() (n int) {
	for _, m := range g.under {
		n += len(m)
	}
	return n
}

// Circles are the pairs of classes A and B where B was taken under A, and A, by way of
// others or not, under B; each with the places. Pairs in known, "A B", are left out before
// circles are looked for.
func (g *Graph) Circles(known map[string]string) (circles []string) {
	next := map[string][]string{}
	for _, a := range slices.Sorted(maps.Keys(g.under)) {
		for _, b := range slices.Sorted(maps.Keys(g.under[a])) {
			if known[a+" "+b] == "" {
				next[a] = append(next[a], b)
			}
		}
	}
	for _, a := range slices.Sorted(maps.Keys(next)) {
		for _, b := range next[a] {
			if way := path(next, b, a); way != nil {
				circles = append(circles, fmt.Sprintf("%s is taken under %s:\n\t%s\nand back by %s",
					b, a, strings.Join(g.under[a][b], "\n\t"), strings.Join(way, ", ")))
			}
		}
	}
	return circles
}

// path is a shortest way from a to b, nil if there is none.
func path(next map[string][]string, a, b string) []string {
	from := map[string]string{a: ""}
	for queue := []string{a}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == b {
			var way []string
			for v := b; v != ""; v = from[v] {
				way = append(way, v)
			}
			slices.Reverse(way)
			return way
		}
		for _, n := range next[queue[0]] {
			if _, ok := from[n]; !ok {
				from[n] = queue[0]
				queue = append(queue, n)
			}
		}
	}
	return nil
}
