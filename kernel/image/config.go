// Package image holds what the packager writes and the kernel reads: the image's
// configuration and the layout of the image file. It runs on both sides and
// imports neither.
//
// An image is one ELF64 file that any PVH loader boots (qemu -kernel). Its first
// PT_LOAD is the boot stub at physical 1 MiB, which opens with a BootBlock; then
// come the kernel's segments with physical addresses; last one segment that
// holds a Header page, the configuration and the root file system.
package image

import (
	"fmt"
	"slices"
	"strings"
)

// Config is the document baked into an image, printed by `pack inspect`. The
// kernel command line overrides single keys at boot.
type Config struct {
	Version int `json:"version"` // ConfigVersion
	// Name is the catalogue entry or program the image was made from.
	Name string `json:"name"`
	// Program is the absolute path of the executable in the root.
	Program string `json:"program,omitempty"`
	// Args are argv, argv[0] included.
	Args []string `json:"args,omitempty"`
	// Env are K=V strings.
	Env     []string `json:"env,omitempty"`
	WorkDir string   `json:"workdir,omitempty"` // "/" if empty
	UID     uint32   `json:"uid,omitempty"`
	GID     uint32   `json:"gid,omitempty"`
	// Programs, instead of Program and Args, are several, supervised by the kernel; Env,
	// WorkDir, UID, GID and Limits hold for those that do not say otherwise.
	Programs Programs `json:"programs,omitempty"`
	// Hostname is the nodename of uname.
	Hostname string  `json:"hostname,omitempty"`
	Network  Network `json:"network"`
	Mounts   []Mount `json:"mounts,omitempty"`
	// Limits are the program's soft and hard resource limits by Linux name
	// without RLIMIT_, lower case ("nofile").
	Limits map[string]Limit `json:"limits,omitempty"`
	// AtExit is what the machine does when the program ends: one of AtExits,
	// poweroff if empty.
	AtExit string `json:"at_exit,omitempty"`
	// LogLevel is the kernel's: one of LogLevels, warn if empty.
	LogLevel string `json:"log_level,omitempty"`
	// Strace logs every system call on the console.
	Strace bool `json:"strace,omitempty"`
	// Ports are the TCP ports the program listens on, for pack run's hints and
	// default forwards.
	Ports []int `json:"ports,omitempty"`
	// Memory is how many bytes pack run gives the machine when it is not told
	// otherwise; 0 lets it choose.
	Memory int64 `json:"memory,omitempty"`
	// CPUs is how many CPUs pack run gives the machine when it is not told otherwise; 0
	// is one.
	CPUs int `json:"cpus,omitempty"`
}

// ConfigVersion is the version this tree writes.
const ConfigVersion = 1

// What a machine can do when its program has ended.
const (
	AtExitPowerOff = "poweroff"
	AtExitReboot   = "reboot"
	AtExitHalt     = "halt"
)

// The values that the keys at_exit and log_level know; of the levels, each includes
// those before it.
var (
	AtExits   = []string{AtExitPowerOff, AtExitReboot, AtExitHalt}
	LogLevels = []string{"error", "warn", "info", "debug"}
)

// LimitNames are the keys that limits knows (setrlimit(2)).
var LimitNames = []string{"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
	"rtprio", "rttime", "sigpending", "stack"}

// OneOf checks the value of a key that knows some words only; an empty value is the
// default and right.
func OneOf(key, value string, words []string) error {
	if value == "" || slices.Contains(words, value) {
		return nil
	}
	last := len(words) - 1
	return fmt.Errorf("%s %q must be %s or %s", key, value, strings.Join(words[:last], ", "), words[last])
}

// Check finds values that no kernel knows, in words for whoever wrote them. A kernel
// that meets one takes the default.
func (c *Config) Check() []error {
	var out []error
	for _, err := range []error{OneOf("at_exit", c.AtExit, AtExits), OneOf("log_level", c.LogLevel, LogLevels)} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// Network is how the first interface gets its address.
type Network struct {
	// Mode is "dhcp" (default), "static" or "none" (loopback only).
	Mode    string   `json:"mode,omitempty"`
	Address string   `json:"address,omitempty"` // CIDR, static
	Gateway string   `json:"gateway,omitempty"`
	DNS     []string `json:"dns,omitempty"`
	MTU     int      `json:"mtu,omitempty"`
}

// Mount is a file system beside the root.
type Mount struct {
	Type    string `json:"type"` // "tmpfs"
	Source  string `json:"source,omitempty"`
	Target  string `json:"target"`
	Options string `json:"options,omitempty"` // comma-separated, as mount(8)
}

// Limit is a pair for setrlimit; -1 is RLIM_INFINITY.
type Limit struct {
	Soft int64 `json:"soft"`
	Hard int64 `json:"hard"`
}

// ParseConfig decodes and checks a document.
func ParseConfig(b []byte) (*Config, error) {
	var c Config
	if err := Decode(b, &c); err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	if c.Version != ConfigVersion {
		return nil, fmt.Errorf("image configuration: version %d, this kernel reads %d", c.Version, ConfigVersion)
	}
	if len(c.Programs) > 0 {
		if err := c.CheckPrograms(); err != nil {
			return nil, fmt.Errorf("image configuration: %w", err)
		}
	} else if c.Program == "" || c.Program[0] != '/' {
		return nil, fmt.Errorf("image configuration: program %q is not an absolute path", c.Program)
	}
	return &c, nil
}
