package system

import (
	"fmt"
	"strconv"
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
	for _, c := range []byte(s) { // which need not be UTF-8
		switch {
		case c == '"':
			quoted = !quoted
			any = true
		case !quoted && (c == ' ' || c == '\t' || c == '\n'):
			flush()
		default:
			w.WriteByte(c)
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
		cfg.Program, cfg.Args, cfg.Programs = c.Init, []string{c.Init}, nil
	}
	if c.HasArgs {
		if err := cfg.SetArgs(c.InitArgs); err != nil {
			return err
		}
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
	return cfg.CheckPrograms()
}

func applyKey(cfg *image.Config, kv KV) error {
	switch k, v := kv.Key, kv.Value; {
	case strings.HasPrefix(k, "env."):
		cfg.SetEnv(strings.TrimPrefix(k, "env."), v)
	case strings.HasPrefix(k, "program."):
		return applyProgramKey(cfg, strings.TrimPrefix(k, "program."), v)
	case k == "debug.timer": // the base's (kernel/metal/noise.go)
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

// applyProgramKey serves kiln.program.NAME.KEY=VALUE.
func applyProgramKey(cfg *image.Config, k, v string) (err error) {
	name, key, _ := strings.Cut(k, ".")
	p := cfg.Find(name)
	if p == nil {
		return fmt.Errorf("the command line's kiln.program.%s: there is no program %q", k, name)
	}
	var n uint64
	switch {
	case key == "args":
		// Split at spaces, as the command line itself is.
		p.Args = append([]string{p.Argv0()}, strings.Fields(v)...)
	case strings.HasPrefix(key, "env."):
		p.Env = image.SetEnv(p.Env, strings.TrimPrefix(key, "env."), v)
	case key == "workdir":
		p.WorkDir = v
	case key == "restart":
		p.Restart = v
	case key == "max_restarts":
		n, err = strconv.ParseUint(v, 10, 31)
		p.MaxRestarts = int(n)
	case key == "backoff":
		err = p.Backoff.UnmarshalText([]byte(v))
	case key == "backoff_max":
		err = p.BackoffMax.UnmarshalText([]byte(v))
	case key == "patience":
		err = p.Patience.UnmarshalText([]byte(v))
	case key == "stop_signal":
		p.StopSignal = v
	case key == "if_failed":
		p.IfFailed = v
	case key == "essential":
		p.Essential = v != "0" && v != "false"
	case key == "health" && (v == "0" || v == "none"):
		p.Health = nil
	default:
		return fmt.Errorf("the command line's kiln.program.%s is not a key of a program that it can set", k)
	}
	if err != nil {
		return fmt.Errorf("the command line's kiln.program.%s: %w", k, err)
	}
	return nil
}
