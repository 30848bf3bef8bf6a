package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kiln/capstan/vmm"
)

// kvmVerdict measures KVM, or gives what was measured since this machine booted, but no
// more than a day ago: the measurement takes up to 0.3 s where KVM is no good.
func kvmVerdict(ctx context.Context) (ok bool, why string) {
	file := ""
	if cache, err := cacheDir(); err == nil {
		if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
			file = filepath.Join(cache, "kvm-"+strings.TrimSpace(string(boot)))
		}
	}
	if file != "" {
		if fi, err := os.Stat(file); err == nil && time.Since(fi.ModTime()) < 24*time.Hour {
			if b, err := os.ReadFile(file); err == nil {
				if string(b) != "fast" {
					return false, string(b)
				}
				// The device may be gone or closed to this user; its speed stays.
				if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
					kvm.Close()
					return true, ""
				}
			}
		}
	}
	ok, why, measured := vmm.MeasureKVM(ctx)
	if file != "" && measured {
		os.MkdirAll(filepath.Dir(file), 0o755)
		text := why
		if ok {
			text = "fast"
		}
		os.WriteFile(file, []byte(text), 0o644)
	}
	return ok, why
}
