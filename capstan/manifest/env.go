package manifest

import "sort"

// DefaultPath is where a program finds others by name unless its PATH is set otherwise.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment is K=V strings in the order of names, with what every program gets
// unless it is set otherwise.
func Environment(set map[string]string) []string {
	all := map[string]string{
		"PATH": DefaultPath, "HOME": "/root", "TERM": "linux",
	}
	for k, v := range set {
		all[k] = v
	}
	names := make([]string, 0, len(all))
	for k := range all {
		names = append(names, k)
	}
	sort.Strings(names)
	out := make([]string, len(names))
	for i, k := range names {
		out[i] = k + "=" + all[k]
	}
	return out
}
