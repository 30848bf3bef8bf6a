// Package spec is what the host tells the Linux guest's init.
package spec

// Spec is one run.
type Spec struct {
	Modules       []string // paths, in load order
	Address, Mask [4]byte  // of eth0; zero: none
	Path, Dir     string
	Args, Env     []string
}
