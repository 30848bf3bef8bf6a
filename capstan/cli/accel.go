package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kiln/capstan/vmm"
)

// fast is what the file of a verdict has if KVM is to be used, else why not. That holds less
// long: who else was busy when it was measured may have been the reason.
const (
	fast    = "fast"
	fastFor = 24 * time.Hour
	slowFor = 10 * time.Minute
)

// kvmVerdict measures KVM, or gives what was measured a while ago since this machine booted:
// the measurement takes up to 0.5 s where KVM is no good.
func kvmVerdict(ctx context.Context) (ok bool, why string) {
	file := ""
	if cache, err := cacheDir(); err == nil {
		if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
			file = filepath.Join(cache, "kvm-"+strings.TrimSpace(string(boot)))
		}
	}
	if text := keptVerdict(file); text == fast {
		// The device may be gone or closed to this user; its speed stays.
		if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
			kvm.Close()
			return true, ""
		}
	} else if text != "" {
		return false, text
	}
	ok, why, measured := vmm.MeasureKVM(ctx)
	if measured {
		text := why
		if ok {
			text = fast
		}
		keepVerdict(file, text)
	}
	return ok, why
}

// keptVerdict is what a file says, "" if it says nothing that still holds.
func keptVerdict(file string) string {
	fi, err := os.Stat(file)
	if err != nil {
		return ""
	}
	b, err := os.ReadFile(file)
	age := time.Since(fi.ModTime())
	if err != nil || age >= fastFor || string(b) != fast && age >= slowFor {
		return ""
	}
	return string(b)
}

// keepVerdict writes the file, if it can be, whole at once: others may read it now.
func keepVerdict(file, text string) {
	if file == "" || os.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".kvm-*")
	if err != nil {
		return
	}
	f.Chmod(0o644) // of no secrecy, where several users share a cache
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
}
