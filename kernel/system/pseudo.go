package system

// pseudo mounts /proc and /sys.
func (s *System) pseudo() error { return nil }
