package vmm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Whether KVM is worth using is measured. /dev/kvm says nothing: on some hosts it is
// there and runs ring 0 in an instruction emulator, a hundred times slower than TCG,
// which also dies of the first SSE instruction.
//
// A child process makes a machine of one page of code through the KVM ioctls and lets
// it run a loop with an SSE instruction, in 64-bit mode at ring 0, as a kernel is. If
// that hangs, crashes or is slow, the child is killed and TCG is used.
const (
	probeEnv   = "KILN_KVM_PROBE"
	probeLimit = 300 * time.Millisecond // for the whole child
	// probeLoops rounds of three instructions take a CPU 1-3 ms, and TCG about 30 ms.
	probeLoops = 3_000_000
	probeGood  = 20 * time.Millisecond
)

// ProbeMain is to be called first in main: in the measuring child it does its work and
// does not return.
func ProbeMain() {
	if os.Getenv(probeEnv) == "" {
		return
	}
	d, err := probeKVM()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(d)
	os.Exit(0)
}

// MeasureKVM measures KVM. If it is not to be used, why is the reason in half a
// sentence; measured is false if there was nothing to measure.
func MeasureKVM(ctx context.Context) (ok bool, why string, measured bool) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, "this machine has no /dev/kvm", false
	case errors.Is(err, os.ErrPermission):
		return false, "/dev/kvm may not be opened by this user (the group kvm may)", false
	case err != nil:
		return false, "/dev/kvm cannot be opened: " + err.Error(), false
	}
	f.Close()
	exe, err := os.Executable()
	if err != nil {
		return false, err.Error(), false
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(whole, probeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), probeEnv+"=1")
	cmd.WaitDelay = 100 * time.Millisecond
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := cmd.Output()
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		if whole.Err() != nil {
			return false, "the measurement of KVM was cut off", false
		}
		if ctx.Err() != nil {
			return false, fmt.Sprintf("KVM here takes over %v for what a CPU does in 3 ms", probeLimit), true
		}
		ok, why := judge(strings.TrimSpace(string(r.out)), r.err)
		return ok, why, true
	case <-time.After(probeLimit + 200*time.Millisecond): // a child that cannot be killed
		return false, "KVM here does not answer", true
	}
}

func judge(out string, err error) (bool, string) {
	if err != nil {
		if out == "" {
			out = err.Error()
		}
		return false, "KVM here does not work (" + out + ")"
	}
	d, err := time.ParseDuration(out)
	if err != nil {
		return false, "KVM here could not be measured"
	}
	if d > probeGood {
		return false, fmt.Sprintf("KVM here is slow (%v for what a CPU does in 3 ms)", d.Round(time.Millisecond))
	}
	return true, ""
}

// The ioctls of linux/kvm.h, as numbers: x/sys/unix does not have them.
const (
	kvmGetAPIVersion       = 0xAE00
	kvmCreateVM            = 0xAE01
	kvmGetVCPUMmapSize     = 0xAE04
	kvmCreateVCPU          = 0xAE41
	kvmSetTSSAddr          = 0xAE47
	kvmSetUserMemoryRegion = 0x4020AE46
	kvmRun                 = 0xAE80
	kvmSetRegs             = 0x4090AE82
	kvmGetSregs            = 0x8138AE83
	kvmSetSregs            = 0x4138AE84
	kvmExitHLT             = 5
)

// The child's shared memory: a memfd mapped at a fixed address, so that its bytes are
// written through the file and its addresses given to ioctls as plain numbers.
const (
	probeBase = 0x10_0000_0000
	guestSize = 0x10000
	argOff    = guestSize // the page of ioctl arguments, behind the guest's memory
	pml4Off   = 0x1000
	pdptOff   = 0x2000
	pdOff     = 0x3000
	codeOff   = 0x4000
)

func ioctl(fd int, req, arg uintptr) (int, error) {
	for {
		r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, fmt.Errorf("ioctl %#x: %w", req, e)
		}
		return int(r), nil
	}
}

// probeKVM runs the loop and times it.
func probeKVM() (time.Duration, error) {
	kvm, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if v, err := ioctl(kvm, kvmGetAPIVersion, 0); err != nil || v != 12 {
		return 0, fmt.Errorf("its API has version %d: %v", v, err)
	}
	mem, err := unix.MemfdCreate("kvm-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	if err := unix.Ftruncate(mem, guestSize+4096); err != nil {
		return 0, err
	}
	if _, _, e := unix.Syscall6(unix.SYS_MMAP, probeBase, guestSize+4096, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_FIXED_NOREPLACE, uintptr(mem), 0); e != 0 {
		return 0, e
	}
	if err := writeGuest(mem); err != nil {
		return 0, err
	}
	vm, err := ioctl(kvm, kvmCreateVM, 0)
	if err != nil {
		return 0, err
	}
	ioctl(vm, kvmSetTSSAddr, 0xfffbd000) // Intel wants it, others refuse it
	region := binary.LittleEndian.AppendUint64(nil, 0)
	for _, v := range []uint64{0, guestSize, probeBase} {
		region = binary.LittleEndian.AppendUint64(region, v)
	}
	if err := setArg(vm, mem, kvmSetUserMemoryRegion, region); err != nil {
		return 0, err
	}
	vcpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return 0, err
	}
	size, err := ioctl(kvm, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return 0, err
	}
	run, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	if err := setState(vcpu, mem); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := ioctl(vcpu, kvmRun, 0); err != nil {
		return 0, err
	}
	d := time.Since(start)
	if exit := binary.LittleEndian.Uint32(run[8:]); exit != kvmExitHLT {
		return 0, fmt.Errorf("the test machine stopped with KVM's exit reason %d", exit)
	}
	return d, nil
}

func setArg(fd, mem int, req uintptr, arg []byte) error {
	if _, err := unix.Pwrite(mem, arg, argOff); err != nil {
		return err
	}
	_, err := ioctl(fd, req, probeBase+argOff)
	return err
}

// writeGuest writes page tables that map the first 2 MiB to themselves, and the code.
func writeGuest(mem int) error {
	code := []byte{0xb9, 0, 0, 0, 0, // mov ecx, probeLoops
		0x0f, 0x28, 0xc8, // again: movaps xmm1, xmm0
		0xff, 0xc9, // dec ecx
		0x75, 0xf9, // jnz again
		0xf4} // hlt
	binary.LittleEndian.PutUint32(code[1:], probeLoops)
	for off, v := range map[int64]uint64{pml4Off: pdptOff | 3, pdptOff: pdOff | 3, pdOff: 0x83} {
		if _, err := unix.Pwrite(mem, binary.LittleEndian.AppendUint64(nil, v), off); err != nil {
			return err
		}
	}
	_, err := unix.Pwrite(mem, code, codeOff)
	return err
}

// setState puts the CPU into 64-bit mode at ring 0 with SSE on (SDM 3A 10.8.5).
func setState(vcpu, mem int) error {
	le := binary.LittleEndian
	if _, err := ioctl(vcpu, kvmGetSregs, probeBase+argOff); err != nil {
		return err
	}
	s := make([]byte, 312)
	if _, err := unix.Pread(mem, s, argOff); err != nil {
		return err
	}
	// struct kvm_segment: base, limit, selector, type, present, dpl, db, s, l, g, ...
	seg := func(i int, typ, db, l byte) {
		p := s[24*i:]
		le.PutUint64(p, 0)
		le.PutUint32(p[8:], 0xffffffff)
		le.PutUint16(p[12:], uint16(8*(i+1)))
		copy(p[14:], []byte{typ, 1, 0, db, 1, l, 1, 0, 0, 0})
	}
	seg(0, 11, 0, 1) // cs
	for i := 1; i <= 5; i++ {
		seg(i, 3, 1, 0) // ds es fs gs ss
	}
	const (
		cr0PE, cr0MP, cr0ET, cr0NE, cr0PG = 1, 2, 16, 32, 1 << 31
		cr4PAE, cr4OSFXSR, cr4OSXMMEXCPT  = 1 << 5, 1 << 9, 1 << 10
		eferLME, eferLMA                  = 1 << 8, 1 << 10
	)
	le.PutUint64(s[224:], cr0PE|cr0MP|cr0ET|cr0NE|cr0PG)
	le.PutUint64(s[240:], pml4Off)
	le.PutUint64(s[248:], cr4PAE|cr4OSFXSR|cr4OSXMMEXCPT)
	le.PutUint64(s[264:], eferLME|eferLMA)
	if err := setArg(vcpu, mem, kvmSetSregs, s); err != nil {
		return err
	}
	regs := make([]byte, 144) // sixteen registers, rip, rflags
	le.PutUint64(regs[128:], codeOff)
	le.PutUint64(regs[136:], 2)
	return setArg(vcpu, mem, kvmSetRegs, regs)
}
