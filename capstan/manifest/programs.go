package manifest

import (
	"maps"
	"path"
	"slices"

	"kiln/kernel/image"
)

// Exec is what one process starts with; see Manifest's keys of the same name, which hold
// where these are left out.
type Exec struct {
	Program string            `yaml:"program"`
	Args    []string          `yaml:"args"`
	Argv0   string            `yaml:"argv0"`
	Env     map[string]string `yaml:"env"`
	WorkDir string            `yaml:"workdir"`
	User    *image.User       `yaml:"user"`
	Limits  map[string]Limit  `yaml:"limits"`
}

// Limit is a soft and a hard limit; -1 is none.
type Limit struct {
	Soft int64 `yaml:"soft"`
	Hard int64 `yaml:"hard"`
}

// Program is one of several; see image.Program.
type Program struct {
	Name        string `yaml:"name"`
	Exec        `yaml:",inline"`
	Pipeline    []Exec            `yaml:"pipeline"`
	PipeFail    bool              `yaml:"pipefail"`
	Essential   bool              `yaml:"essential"`
	After       map[string]string `yaml:"after"` // name: started, healthy or ended
	Restart     string            `yaml:"restart"`
	MaxRestarts int               `yaml:"max_restarts"`
	Backoff     image.Duration    `yaml:"backoff"`
	BackoffMax  image.Duration    `yaml:"backoff_max"`
	IfFailed    string            `yaml:"if_failed"`
	Health      *image.Health     `yaml:"health"`
	StopSignal  string            `yaml:"stop_signal"`
	Patience    image.Duration    `yaml:"patience"`
}

// Execs are all processes that the manifest starts.
func (m *Manifest) Execs() []Exec {
	if len(m.Programs) == 0 {
		return []Exec{{Program: m.Program, WorkDir: m.WorkDir}}
	}
	var out []Exec
	for _, p := range m.Programs {
		stages := p.Pipeline
		if len(stages) == 0 {
			stages = []Exec{p.Exec}
		}
		for _, e := range stages {
			if e.WorkDir == "" {
				e.WorkDir = m.WorkDir
			}
			out = append(out, e)
		}
	}
	return out
}

// Executable is the path of a program with what its environment says of where others are:
// LD_LIBRARY_PATH, and PATH if it is not DefaultPath.
type Executable struct{ Path, LibraryPath, SearchPath string }

// Executables are all programs, each once: of the processes and of the commands of health
// checks.
func (m *Manifest) Executables() []Executable {
	var out []Executable
	add := func(program string, own map[string]string) {
		env := map[string]string{}
		maps.Copy(env, m.Env)
		maps.Copy(env, own)
		if x := (Executable{program, env["LD_LIBRARY_PATH"], env["PATH"]}); !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	for _, e := range m.Execs() {
		add(e.Program, e.Env)
	}
	for _, p := range m.Programs {
		if h := p.Health; h != nil && len(h.Command) > 0 {
			add(h.Command[0], p.Env)
		}
	}
	return out
}

func (e *Exec) image() image.Exec {
	argv0 := e.Argv0
	if argv0 == "" {
		argv0 = path.Base(e.Program)
	}
	out := image.Exec{Program: e.Program, Args: append([]string{argv0}, e.Args...), WorkDir: e.WorkDir, User: e.User, Limits: limits(e.Limits)}
	for _, k := range slices.Sorted(maps.Keys(e.Env)) {
		out.Env = append(out.Env, k+"="+e.Env[k])
	}
	return out
}

func limits(in map[string]Limit) map[string]image.Limit {
	var out map[string]image.Limit
	for k, l := range in {
		if out == nil {
			out = map[string]image.Limit{}
		}
		out[k] = image.Limit{Soft: l.Soft, Hard: l.Hard}
	}
	return out
}

func (p *Program) image() image.Program {
	out := image.Program{Name: p.Name, PipeFail: p.PipeFail, Essential: p.Essential, Restart: p.Restart, MaxRestarts: p.MaxRestarts,
		Backoff: p.Backoff, BackoffMax: p.BackoffMax, IfFailed: p.IfFailed, Health: p.Health, StopSignal: p.StopSignal, Patience: p.Patience}
	if len(p.Pipeline) == 0 || p.Program != "" {
		out.Exec = p.Exec.image()
	}
	for i := range p.Pipeline {
		out.Pipeline = append(out.Pipeline, p.Pipeline[i].image())
	}
	for _, k := range slices.Sorted(maps.Keys(p.After)) {
		out.After = append(out.After, image.After{Program: k, Is: p.After[k]})
	}
	return out
}

// checkPrograms looks at the list of programs, as the kernel will.
func (m *Manifest) checkPrograms() error {
	if len(m.Programs) == 0 {
		return nil
	}
	if m.Program != "" || len(m.Args) > 0 || m.Argv0 != "" || m.Build != nil && m.Build.Go != "" {
		return bad("program, args, argv0 and build.go are keys of a single program: with programs, each has its own")
	}
	if err := m.Config().CheckPrograms(); err != nil {
		return bad("%w", err)
	}
	for _, p := range m.Programs {
		for _, e := range append([]Exec{p.Exec}, p.Pipeline...) {
			if err := checkExec(e); err != nil {
				return bad("programs: %s: %w", p.Name, err)
			}
		}
	}
	return nil
}
