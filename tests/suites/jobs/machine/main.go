// Command machine is one machine as a process of the host: the whole kernel above hal over
// kernel/hosted, with a root from a file. What the terminal gets is its standard output,
// what the kernel says its standard error. The tests start one for each run, so that a
// panic, a hang and what a machine leaves behind end with it.
//
//	machine [-m MB] [-cpus N] ROOT.erofs PROGRAM [ARGS...]
package main

import (
	"flag"
	"fmt"
	"os"

	"kiln/kernel/hosted"
	"kiln/kernel/image"
	"kiln/kernel/system"
)

func main() {
	status, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		os.Exit(125)
	}
	os.Exit(status)
}

func run() (int, error) {
	memory := flag.Int64("m", 1024, "memory in MB")
	cpus := flag.Int("cpus", 2, "CPUs")
	strace := flag.Bool("strace", false, "log system calls")
	flag.Parse()
	if flag.NArg() < 2 {
		return 0, fmt.Errorf("which root, which program?")
	}
	root, err := os.ReadFile(flag.Arg(0))
	if err != nil {
		return 0, err
	}
	m, err := hosted.New(hosted.Config{Memory: *memory << 20, CPUs: *cpus, Root: root, Console: os.Stderr})
	if err != nil {
		return 0, err
	}
	args := flag.Args()[1:]
	cfg := image.Config{
		Version: image.ConfigVersion, Name: "suite", Hostname: "kiln", Program: args[0], Args: args, Strace: *strace,
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, Network: image.Network{Mode: "none"},
		Mounts: []image.Mount{{Type: "tmpfs", Target: "/tmp", Options: "mode=1777"}, {Type: "tmpfs", Target: "/run", Options: "mode=755"}},
	}
	s, err := system.New(m, system.Options{Config: &cfg, NoDevices: true, Console: terminal{}})
	if err != nil {
		return 0, fmt.Errorf("system: %w", err)
	}
	status, err := s.Run()
	if err != nil {
		return 0, err
	}
	if sig := status & 0x7f; sig != 0 {
		return 128 + int(sig), nil
	}
	return int(status >> 8 & 0xff), nil
}

// terminal is standard output as a tty.Port, which always has room.
type terminal struct{}

func (terminal) Write(b []byte) int {
	os.Stdout.Write(b)
	return len(b)
}

func (terminal) Room() int         { return 1 << 16 }
func (terminal) Pending() int      { return 0 }
func (terminal) OnWritable(func()) {}
