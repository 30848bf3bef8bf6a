// Package job is what the recorder tells the guest.
package job

// File is the path of the list of jobs.
const File = "/cases.json"

// Job is one case.
type Job struct {
	Name, Path string
	Args, Env  []string
}
