// Package job is what the recorder tells the guest.
package job

// Job is one case.
type Job struct {
	Name, Path string
	Args, Env  []string
}
