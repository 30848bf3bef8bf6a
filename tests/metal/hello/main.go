// Hello is the smallest kernel: the Go runtime at ring 0 says so.
package main

import (
	_ "kiln/kernel/metal"
	"os"
)

func main() {
	println("hello from ring 0")
	os.Exit(0)
}
