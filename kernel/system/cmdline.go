package system

import (
	"fmt"
	"strings"

	"kiln/kernel/image"
)

// Cmdline is what the kernel command line says, in Linux's syntax where Linux has
// the word (Documentation/admin-guide/kernel-parameters.txt).
type Cmdline struct {
	// Init and InitArgs are init=PROG and what follows " -- ".
	Init     string
	InitArgs []string
	HasArgs  bool
	// Nonce is kiln.nonce=: the last console line carries it where there is no
	// control port.
	Nonce string
	// Keys are the kiln.KEY=VALUE words, in order.
	Keys []KV
	// Quiet and Debug are Linux's quiet and debug.
	Quiet, Debug bool
	// Hostname is hostname=.
	Hostname string
}

// KV is one word.
type KV struct{ Key, Value string }

// ParseCmdline reads a command line. Words may be quoted with ", as in Linux. Unknown
// words are left to their owners (ip= to net, virtio_mmio.device= to drivers) or mean
// something to other kernels only.
func ParseCmdline(s string) Cmdline {
	var c Cmdline
	words := splitWords(s)
	for i, w := range words {
		if w == "--" {
			c.HasArgs, c.InitArgs = true, words[i+1:]
			break
		}
		k, v, _ := strings.Cut(w, "=")
		switch {
		case k == "init":
			c.Init = v
		case k == "hostname":
			c.Hostname = v
		case w == "quiet":
			c.Quiet = true
		case w == "debug":
			c.Debug = true
		case k == "kiln.nonce":
			c.Nonce = v
		case strings.HasPrefix(k, "kiln."):
			c.Keys = append(c.Keys, KV{strings.TrimPrefix(k, "kiln."), v})
		}
	}
	return c
}

// splitWords splits at spaces outside double quotes, which it drops.
func splitWords(s string) []string {
	var words []string
	var w strings.Builder
	quoted, any := false, false
	flush := func() {
		if any {
			words = append(words, w.String())
			w.Reset()
			any = false
		}
	}
	for _, r := range s {
		switch {
		case r == '"':
			quoted = !quoted
			any = true
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			flush()
		default:
			w.WriteRune(r)
			any = true
		}
	}
	flush()
	return words
}

// Apply overrides keys of the image's configuration.
func (c *Cmdline) Apply(cfg *image.Config) error {
	if c.Init != "" {
		if c.Init[0] != '/' {
			return fmt.Errorf("init=%s is not an absolute path", c.Init)
		}
		cfg.Program, cfg.Args = c.Init, []string{c.Init}
	}
	if c.HasArgs {
		if len(cfg.Args) == 0 {
			cfg.Args = []string{cfg.Program}
		}
		cfg.Args = append(cfg.Args[:1:1], c.InitArgs...)
	}
	if c.Hostname != "" {
		cfg.Hostname = c.Hostname
	}
	switch {
	case c.Debug:
		cfg.LogLevel = "debug"
	case c.Quiet:
		cfg.LogLevel = "error"
	}
	for _, kv := range c.Keys {
		if err := applyKey(cfg, kv); err != nil {
			return err
		}
	}
	return nil
}

func applyKey(cfg *image.Config, kv KV) error {
	switch k, v := kv.Key, kv.Value; {
	case strings.HasPrefix(k, "env."):
		setEnv(cfg, strings.TrimPrefix(k, "env."), v)
	case k == "hostname":
		cfg.Hostname = v
	case k == "workdir":
		cfg.WorkDir = v
	case k == "at_exit":
		cfg.AtExit = v
	case k == "log_level":
		cfg.LogLevel = v
	case k == "strace":
		cfg.Strace = v != "0" && v != "false"
	case k == "network":
		cfg.Network.Mode = v
	case k == "address":
		cfg.Network.Mode, cfg.Network.Address = "static", v
	case k == "gateway":
		cfg.Network.Gateway = v
	case k == "dns":
		cfg.Network.DNS = strings.Split(v, ",")
	default:
		return fmt.Errorf("the command line's kiln.%s is not a key of the configuration", k)
	}
	return nil
}

func setEnv(cfg *image.Config, key, value string) {
	for i, e := range cfg.Env {
		if k, _, _ := strings.Cut(e, "="); k == key {
			cfg.Env[i] = key + "=" + value
			return
		}
	}
	cfg.Env = append(cfg.Env, key+"="+value)
}
