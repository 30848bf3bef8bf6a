// Command kernel is the kernel's main: it wires the machine to the system and runs the
// image's program. See kernel/metal for how it is linked and booted.
package main

import (
	"kiln/kernel/metal"
	"kiln/kernel/system"
)

func main() {
	m := metal.New()
	s, err := system.New(m, system.Options{})
	if err != nil {
		system.Panic(m, s, err)
	}
	status, err := s.Run()
	if err != nil {
		system.Panic(m, s, err)
	}
	s.Shutdown(status)
}
