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

// EnvKey is the name that a K=V string sets.
func EnvKey(e string) string {
	k, _, _ := strings.Cut(e, "=")
	return k
}

// SetEnv puts a variable into env, in place of one of the same name.
func SetEnv(env []string, key, value string) []string {
	for i, e := range env {
		if EnvKey(e) == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}
