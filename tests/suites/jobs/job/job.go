// Package job is what a suite's runner tells process 1 of the machine.
package job

import "time"

// File is the path of the list of jobs.
const File = "/jobs.json"

// Job is one program.
type Job struct {
	Name, Path string
	Args, Env  []string
	Dir        string        // "/" if empty
	Limit      time.Duration // then it gets SIGQUIT, and SIGKILL 5 seconds later; 0: 2 minutes
	UID        uint32        // and the group of the same number
}

// Late is the status of a job whose time was over.
const Late = 1000
