// Mkkernel makes a kernel linked by `go build` bootable.
//
//	mkkernel IN OUT
package main

import (
	"fmt"
	"os"

	"kiln/kernel/boot"
	"kiln/kernel/image"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mkkernel IN OUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "mkkernel:", err)
		os.Exit(1)
	}
}

func run(in, out string) error {
	b, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	k, err := image.Link(b, image.Stub{Code: boot.Stub, Entry: boot.PVHEntry, MemSize: boot.MemSize})
	if err != nil {
		return err
	}
	return os.WriteFile(out, k, 0o644)
}
