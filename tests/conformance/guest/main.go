// Command guest runs the conformance cases inside a machine, Linux or Kiln, one after the
// other, and prints each one's output between markers.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"kiln/tests/conformance/guest/job"
)

func main() {
	b, err := os.ReadFile(job.File)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	var jobs []job.Job
	if err := json.Unmarshal(b, &jobs); err != nil {
		fmt.Println("guest:", err)
		return
	}
	dirs := directories()
	for _, j := range jobs {
		old, _ := filepath.Glob("/tmp/*")
		for _, f := range old {
			os.RemoveAll(f)
		}
		// A case may have changed these on its way through all calls with paths.
		for _, d := range dirs {
			syscall.Chown(d.path, int(d.st.Uid), int(d.st.Gid))
			syscall.Chmod(d.path, d.st.Mode&0o7777)
		}
		out, status := run(j)
		fmt.Printf("\n@@ %s %d %s\n", j.Name, status, base64.StdEncoding.EncodeToString(out))
	}
	fmt.Println("@@ end")
}

// directory is one whose owner and mode each case finds as they were.
type directory struct {
	path string
	st   syscall.Stat_t
}

func directories() (l []directory) {
	for _, p := range []string{"/", "/tmp", "/root", "/etc", "/bin", "/run"} {
		d := directory{path: p}
		if syscall.Stat(p, &d.st) == nil {
			l = append(l, d)
		}
	}
	return l
}

func run(j job.Job) ([]byte, int) {
	var out bytes.Buffer
	cmd := exec.Command(j.Path)
	cmd.Args, cmd.Env, cmd.Dir = append([]string{j.Path}, j.Args...), j.Env, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, &out, &out
	// A case that goes wrong may leave children that hold the pipe.
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return []byte(err.Error()), 127
	}
	timer := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return out.Bytes(), 128 + int(ws.Signal())
	}
	return out.Bytes(), ws.ExitStatus()
}
