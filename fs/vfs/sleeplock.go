package vfs

import "kiln/kernel/mm"

// SleepLock may be held over storage I/O and over copies that fault.
type SleepLock = mm.SleepLock
