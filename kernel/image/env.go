package image

import "strings"

// EnvVar is one variable of an environment.
type EnvVar struct{ Key, Value string }

// HasEnv says whether env, K=V strings, sets key.
func HasEnv(env []string, key string) bool {
	for _, e := range env {
		if k, _, ok := strings.Cut(e, "="); ok && k == key {
			return true
		}
	}
	return false
}
