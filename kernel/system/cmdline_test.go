package system

import (
	"slices"
	"strings"
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

func TestCommandLineIsBytes(t *testing.T) {
	cfg := &image.Config{Program: "/bin/a"}
	c := ParseCmdline("kiln.env.X=\xff -- caf\xe9 \"é \x80\"")
	if err := c.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Args, []string{"/bin/a", "caf\xe9", "é \x80"}) || !slices.Equal(cfg.Env, []string{"X=\xff"}) {
		t.Errorf("%q %q", cfg.Args, cfg.Env)
	}
}

func TestCommandLineRefusesWhatItCannotMean(t *testing.T) {
	for _, s := range []string{"kiln.nosuch=1", "init=relative", "kiln.program.web.restart=always"} {
		c := ParseCmdline(s)
		if c.Apply(&image.Config{Program: "/a"}) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func twoPrograms() *image.Config {
	return &image.Config{Env: []string{"A=1"}, Programs: []image.Program{
		{Name: "db", Exec: image.Exec{Program: "/bin/db", Args: []string{"db"}, Env: []string{"A=2"}}},
		{Name: "web", Essential: true, Exec: image.Exec{Program: "/bin/web", Args: []string{"web", "-x"}}},
	}}
}

func TestCommandLineOverridesOneOfSeveralPrograms(t *testing.T) {
	cfg := twoPrograms()
	c := ParseCmdline(`kiln.program.db.args="-v -w" kiln.program.db.restart=always kiln.program.db.env.B=3 kiln.program.db.patience=2s kiln.program.db.max_restarts=5 -- -y`)
	if err := c.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	db, web := cfg.Find("db"), cfg.Find("web")
	if !slices.Equal(db.Args, []string{"db", "-v", "-w"}) || db.Restart != "always" || !slices.Equal(db.Env, []string{"A=2", "B=3"}) ||
		db.Patience != image.Duration(2e9) || db.MaxRestarts != 5 {
		t.Errorf("db is %+v", db)
	}
	if !slices.Equal(web.Args, []string{"web", "-y"}) {
		t.Errorf("the arguments of the essential program are %q", web.Args)
	}
	// A variable for all counts for all.
	c = ParseCmdline("kiln.env.A=9")
	if err := c.Apply(cfg); err != nil || !slices.Equal(cfg.Env, []string{"A=9"}) || !slices.Equal(db.Env, []string{"B=3"}) {
		t.Errorf("%v: environment %q, db's %q", err, cfg.Env, db.Env)
	}
	// init= is for a machine that does not come up otherwise: it alone runs.
	c = ParseCmdline("init=/bin/sh")
	if err := c.Apply(cfg); err != nil || cfg.Programs != nil || cfg.Program != "/bin/sh" {
		t.Errorf("%v: %+v", err, cfg)
	}
}

func TestCommandLineRefusesWhatAProgramCannotMean(t *testing.T) {
	for line, want := range map[string]string{
		"kiln.program.nosuch.restart=always": `there is no program "nosuch"`,
		"kiln.program.db.restart=sometimes":  `programs: db: restart "sometimes" must be never, on-failure or always`,
		"kiln.program.db.colour=red":         "is not a key of a program that it can set",
		"kiln.program.db.patience=long":      `"long" is not a time: write it as 500ms, 10s or 2m`,
		"kiln.program.db.essential=1":        "db and web are both essential",
	} {
		c := ParseCmdline(line)
		if err := c.Apply(twoPrograms()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
	cfg := twoPrograms()
	cfg.Programs[1].Essential = false
	c := ParseCmdline("-- x")
	if err := c.Apply(cfg); err == nil || !strings.Contains(err.Error(), "none is essential") {
		t.Errorf("arguments for nobody: %v", err)
	}
}
