package system

import (
	"slices"
	"testing"

	"kiln/kernel/image"
)

func TestCommandLineOverridesTheConfiguration(t *testing.T) {
	cfg := &image.Config{Program: "/bin/a", Args: []string{"a", "x"}, Env: []string{"K=1", "L=2"}}
	c := ParseCmdline(`console=ttyS0 init=/bin/b kiln.env.K="two words" kiln.strace=1 hostname=web ip=dhcp debug -- -v "a b"`)
	if err := c.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Program != "/bin/b" || !slices.Equal(cfg.Args, []string{"/bin/b", "-v", "a b"}) {
		t.Errorf("program %q, args %q", cfg.Program, cfg.Args)
	}
	if !slices.Equal(cfg.Env, []string{"K=two words", "L=2"}) || !cfg.Strace || cfg.Hostname != "web" || cfg.LogLevel != "debug" {
		t.Errorf("configuration %+v", cfg)
	}
}

func TestCommandLineWithoutDashesLeavesTheArguments(t *testing.T) {
	cfg := &image.Config{Program: "/bin/a", Args: []string{"a", "x"}}
	c := ParseCmdline("quiet")
	if err := c.Apply(cfg); err != nil || !slices.Equal(cfg.Args, []string{"a", "x"}) || cfg.LogLevel != "error" {
		t.Errorf("%v %+v", err, cfg)
	}
}

func TestCommandLineRefusesWhatItCannotMean(t *testing.T) {
	for _, s := range []string{"kiln.nosuch=1", "init=relative"} {
		c := ParseCmdline(s)
		if c.Apply(&image.Config{Program: "/a"}) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
