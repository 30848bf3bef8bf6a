// Package metal is hal.Machine on a bare (or virtual) PC: the base under the Go
// runtime. Build a bootable kernel from a main package that calls metal.New with
//
//	CGO_ENABLED=0 GOAMD64=v1 go build -trimpath -o /tmp/k.elf -ldflags "-T -2145386496 -E kiln/kernel/metal.start -X runtime.godebugDefault=decoratemappings=0,madvdontneed=1" ./cmd/kernel
//	go run ./cmd/mkkernel /tmp/k.elf /tmp/kernel.elf
//	qemu-system-x86_64 -M microvm -cpu max -accel tcg -m 128 -nodefaults -no-reboot -display none -serial stdio -kernel /tmp/kernel.elf
//
// (add -s -w for a small one). tests/metal/build.sh does the first two.
//
// # How it works
//
// The Go runtime is an ordinary linux/amd64 runtime that executes SYSCALL at ring
// 0. The base answers (sys.go), gives it demand-zero memory from page faults
// (mem.go), runs its threads, the Ms, on the CPUs (sched.go), and delivers signals
// (signal.go). All of that runs with interrupts off, under one lock, on a stack, a
// TLS and a g of the CPU's own: the base is Go, but nothing in it may allocate, grow
// the stack beyond 30 KiB, or store a pointer (write barriers need a P). Its
// variables start with dataMagic so that they lie in .data: BSS is demand-zero too.
//
// A trap pushes its frame into the running M itself (IST 1 points there), the stub
// saves the rest behind it, calls trap, and resumes whatever M is then current: the
// base has one stack a CPU and no context switch of its own.
//
// Ring 3 is entered by a goroutine through enter (user_amd64.s) and comes back as a
// return from it. The goroutine keeps its P. SIGURG pre-emption is on: a tgkill for
// an M in ring 3 makes it leave with ExitInterrupt, and the runtime's handler runs at
// the return point. It was chosen over GODEBUG=asyncpreemptoff (which never sends a
// tgkill, so that a spinning program would hold up the collector) and over
// entersyscall around ring 3 (106 cycles a call, and more busy Ms than CPUs).
//
// Memory. Programs stop at a reserve: the distance from what the kernel uses to what
// it may come to use (mem.go, setMarks), because Go's heap cannot be refused anything.
// The pressure line is latched at the low watermark, at the reserve, and at a half and a
// quarter of it. Address spaces are kernel/metal/paging over frames.
//
// Time. The TSC's rate comes from CPUID or kvmclock; else from the ACPI PM timer or the
// PIT, over half a millisecond at boot and over ever longer spans afterwards (time.go).
// Once TimeParams has told programs, only TimeParams changes it: whoever calls it must
// pass the result on to the vDSO, and may call it again after a second for a better rate.
package metal
