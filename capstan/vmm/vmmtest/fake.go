// Package vmmtest stands in for QEMU in tests: the test's own executable, started under
// QEMU's name, does what a plan says.
package vmmtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	planEnv = "KILN_FAKE_QEMU_PLAN"
	argsEnv = "KILN_FAKE_QEMU_ARGS"
)

// Main is to be called first in TestMain: in a fake QEMU it does not return.
func Main() {
	if os.Getenv(planEnv) == "" || !strings.HasPrefix(filepath.Base(os.Args[0]), "qemu-") {
		return
	}
	raw := make([][]byte, len(os.Args)) // an argument need be no UTF-8
	for i, a := range os.Args {
		raw[i] = []byte(a)
	}
	b, _ := json.Marshal(raw)
	os.WriteFile(os.Getenv(argsEnv), b, 0o644)
	var ctl net.Conn
	for _, a := range os.Args {
		if p, ok := strings.CutPrefix(a, "socket,id=ctl,path="); ok {
			var err error
			if ctl, err = net.Dial("unix", strings.ReplaceAll(p, ",,", ",")); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	for _, step := range strings.Split(os.Getenv(planEnv), ";") {
		verb, arg, _ := strings.Cut(step, " ")
		switch verb {
		case "print":
			fmt.Printf("%s\r\n", arg)
		case "error":
			fmt.Fprintln(os.Stderr, arg)
		case "ctl":
			fmt.Fprintln(ctl, arg)
		case "echo": // one line typed
			line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
			fmt.Print(line)
		case "await": // a line on the control port
			line, _ := bufio.NewReader(ctl).ReadString('\n')
			fmt.Printf("got %s\n", strings.TrimSpace(line))
		case "sleep":
			d, _ := time.ParseDuration(arg)
			time.Sleep(d)
		case "exit":
			n, _ := strconv.Atoi(arg)
			os.Exit(n)
		case "killed":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	io.WriteString(os.Stdout, "")
	os.Exit(0)
}

// Install puts a fake QEMU with a plan first in PATH. The plan is steps with
// semicolons between: print TEXT, error TEXT, ctl LINE, echo, await, sleep TIME, exit N, killed.
// args gives the arguments it was started with.
func Install(t *testing.T, plan string) (args func() []string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(exe, filepath.Join(dir, "qemu-system-x86_64")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv(planEnv, plan)
	t.Setenv(argsEnv, filepath.Join(dir, "args"))
	return func() []string {
		b, err := os.ReadFile(filepath.Join(dir, "args"))
		if err != nil {
			t.Fatal(err)
		}
		var raw [][]byte
		if err := json.Unmarshal(b, &raw); err != nil {
			t.Fatal(err)
		}
		out := make([]string, len(raw))
		for i, a := range raw {
			out[i] = string(a)
		}
		return out
	}
}
