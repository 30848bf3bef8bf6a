// Package core holds the base's state machines: the page allocator, the list of
// the runtime's mappings, the timer queue, the run queue and the random
// generator. They are plain Go on plain structs, with no clock and no machine, and
// are tested on the host.
//
// Kernel/metal calls them without a goroutine: they must not allocate, panic on
// purpose, defer, use maps, or store a pointer after their Init. Slots are numbers.
package core

// None is the number that no slot has.
const None = ^uint32(0)
