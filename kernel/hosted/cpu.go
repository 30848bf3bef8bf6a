package hosted

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"kiln/kernel/hal"
)

// Auxiliary vector entries (linux/auxvec.h).
const (
	atHWCAP  = 16
	atHWCAP2 = 26
)

// hostFeatures fills Features from what the host tells its processes.
func (m *Machine) hostFeatures() {
	f := &m.feat
	for tag, v := range auxv() {
		switch tag {
		case atHWCAP:
			f.HWCAP = uint32(v)
		case atHWCAP2:
			f.FSGSBASE = v&2 != 0
		}
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	first, _, _ := strings.Cut(string(info), "\n\n")
	for _, line := range strings.Split(first, "\n") {
		k, v, _ := strings.Cut(line, ":")
		v = strings.TrimSpace(v)
		n, _ := strconv.Atoi(v)
		switch strings.TrimSpace(k) {
		case "vendor_id":
			f.Vendor = v
		case "model name":
			f.Brand = v
		case "cpu family":
			f.Family = n
		case "model":
			f.Model = n
		case "stepping":
			f.Stepping = n
		case "flags":
			f.Flags = strings.Fields(v)
		}
	}
	for _, s := range f.Flags {
		switch s {
		case "smep":
			f.SMEP = true
		case "smap":
			f.SMAP = true
		case "rdrand":
			f.RDRAND = true
		}
	}
	f.Caches = hal.ReadCaches(cpuid)
	f.TSCHz = m.clock.tscHz
}

// cpuid executes CPUID.
func cpuid(leaf, sub uint32) (a, b, c, d uint32)

func auxv() map[uint64]uint64 {
	b, _ := os.ReadFile("/proc/self/auxv")
	v := map[uint64]uint64{}
	for ; len(b) >= 16; b = b[16:] {
		v[binary.LittleEndian.Uint64(b)] = binary.LittleEndian.Uint64(b[8:])
	}
	return v
}

// probeFP asks for a traced thread's vector state: its length is the host's, and
// the words that Linux leaves for software name the enabled components (the first
// eight bytes of struct _fpx_sw_bytes' place hold the mask; see ptrace's
// NT_X86_XSTATE).
func (m *Machine) probeFP(t *tracee) error {
	b := make([]byte, 16384)
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	e := ptrace(unix.PTRACE_GETREGSET, t.tid, ntX86XState, uintptr(unsafe.Pointer(&iov)))
	if e == 0 && iov.Len >= 576 && iov.Len < uint64(len(b)) {
		m.feat.XSAVE = true
		m.feat.FPSize = int(iov.Len)
		m.feat.XCR0 = binary.LittleEndian.Uint64(b[464:])
	} else {
		iov.Len = 512
		if e := ptrace(unix.PTRACE_GETREGSET, t.tid, ntPRFPReg, uintptr(unsafe.Pointer(&iov))); e != 0 {
			return fmt.Errorf("hosted: the vector state of a traced thread: %w", e)
		}
	}
	if m.mxMask = binary.LittleEndian.Uint32(b[28:]); m.mxMask == 0 {
		m.mxMask = 0xffbf // SDM 1 11.6.6
	}
	return nil
}

// Components that a thread must ask its kernel for (AMX tile state).
const xfeatureAMX = 3 << 17

// SanitizeFP implements hal.Machine.
func (m *Machine) SanitizeFP(img []byte) bool {
	if len(img) != m.feat.FPSize {
		return false
	}
	le := binary.LittleEndian
	le.PutUint32(img[24:], le.Uint32(img[24:])&m.mxMask)
	clear(img[464:512])
	if m.feat.XSAVE {
		le.PutUint64(img[512:], le.Uint64(img[512:])&m.feat.XCR0&^xfeatureAMX)
		clear(img[520:576]) // XCOMP_BV: standard format; the rest is reserved
	}
	return true
}
