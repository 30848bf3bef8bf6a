// Abi writes docs/abi.md: every system call of Linux on x86-64 with what this kernel has
// of it, and how many conformance cases are about it.
//
//	go run ./tests/cmd/abi      writes docs/abi.md
//	go run ./tests/cmd/abi -    prints it
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"kiln/tests/conformance"
	"kiln/tests/vmtest"
)

func main() {
	text, err := conformance.ABI()
	if err != nil {
		fmt.Fprintln(os.Stderr, "abi:", err)
		os.Exit(1)
	}
	if len(os.Args) > 1 {
		fmt.Print(text)
		return
	}
	top, err := vmtest.Root()
	if err == nil {
		err = os.WriteFile(filepath.Join(top, "docs", "abi.md"), []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "abi:", err)
		os.Exit(1)
	}
}
