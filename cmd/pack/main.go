// Command pack bakes Linux programs into machine images and runs them. See
// kiln/capstan/cli.
package main

import (
	"context"
	"os"

	"kiln/capstan/cli"
	"kiln/capstan/vmm"
)

func main() {
	vmm.ProbeMain()
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
