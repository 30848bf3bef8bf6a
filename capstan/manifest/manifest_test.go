package manifest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"kiln/kernel/image"
)

const (
	good    = "name: web\nprogram: /usr/bin/web\n"
	several = "name: web\nprograms: "
)

func TestMistakesInAManifestAreErrors(t *testing.T) {
	for doc, want := range map[string]string{
		"":                                                                     "empty",
		good + "prots: [80]\n":                                                 "prots",
		good + "---\nname: two\n":                                              "more than one",
		"name: a b\nprogram: /x\n":                                             "name",
		"name: x\nprogram: bin/x\n":                                            "absolute",
		good + "ports: [0]\n":                                                  "port 0",
		good + "cpus: 65\n":                                                    "1 to 64",
		good + "cpus: -1\n":                                                    "1 to 64",
		good + "memory: much\n":                                                "64M",
		good + "at_exit: sleep\n":                                              `at_exit "sleep" must be poweroff, reboot or halt`,
		good + "log_level: loud\n":                                             `log_level "loud" must be error, warn, info or debug`,
		good + "network: {mode: magic}\n":                                      "dhcp",
		good + "env: {\"A=B\": c}\n":                                           "A=B",
		good + "files: [{path: x}]\n":                                          "absolute",
		good + "files: [{path: /x, from: ../y}]\n":                             "beside",
		good + "files: [{path: /x, link: y, dir: true}]\n":                     "more than one of",
		good + "files: [{path: /x, exclude: [\"[\"]}]\n":                       "pattern",
		good + "files: [{path: /x, mode: 0777777}]\n":                          "mode",
		good + "build: {go: /abs}\n":                                           "beside",
		good + "smoke: [{name: nothing}]\n":                                    "checks nothing",
		good + "smoke: [{http: {port: 1}, tcp: {port: 2}}]\n":                  "more than one of",
		good + "ports: 80\n":                                                   `line 3: "80" is not a list`,
		good + "ports: [a]\n":                                                  `line 3: "a" is not a whole number`,
		good + "args: {a: b}\n":                                                "line 3: a mapping is not a list",
		good + "user: {uid: -1}\n":                                             `"-1" is not a whole number from 0`,
		good + "limits: {nofile: 5}\n":                                         `"5" is not a mapping`,
		good + "name: two\n":                                                   `the key "name" is there already, in line 1`,
		good + "prots: [80]\nagrs: [x]\n":                                      `line 3: there is no key "prots"; line 4: there is no key "agrs"`,
		good + "limits: {nosuch: {soft: 1, hard: 1}}\n":                        `"nosuch", which is none of as, core`,
		good + "limits: {nofile: {soft: 10, hard: 2}}\n":                       "soft 10 is over hard 2",
		good + "limits: {nofile: {soft: -1, hard: 2}}\n":                       "over hard 2",
		good + "mounts: [{type: ext9, target: /d}]\n":                          "must be tmpfs",
		good + "mounts: [{type: tmpfs, target: /proc/x}]\n":                    "mounts its own /proc over it",
		good + "mounts: [{type: tmpfs, target: /sys/}]\n":                      "mounts its own /sys over it",
		good + "mounts: [{type: tmpfs, target: d}]\n":                          "absolute",
		good + "mounts: [{type: tmpfs, target: /d, options: \"size=lots\"}]\n": "size=64M",
		good + "network: {mode: static}\n":                                     "10.0.0.2/24",
		good + "network: {mode: static, address: 10.0.0.1}\n":                  "10.0.0.2/24",
		good + "network: {mode: static, address: 10.0.0.1/8, gateway: \"fe80::1\"}\n":       "same family",
		good + "network: {address: 10.0.0.1/8}\n":                                           "only mode static",
		good + "network: {dns: [x]}\n":                                                      "not an address",
		good + "network: {mtu: 5}\n":                                                        "between 68",
		good + "hostname: \"a b\"\n":                                                        "hostname",
		good + "workdir: rel\n":                                                             "absolute",
		good + "users: [{name: \"a:b\", uid: 1}]\n":                                         "/etc/passwd",
		good + "args: [\"a\\0b\"]\n":                                                        "zero byte",
		good + "packages: [Bad/Name]\n":                                                     "Debian package",
		"name: x\nprogram: /\n":                                                             "is a folder",
		"name: [":                                                                           "not right",
		good + "programs: [{name: a, program: /a}]\n":                                       "program, args, argv0 and build.go are keys of a single program",
		good + "build: {}\n":                                                                "one of go, a folder, and run",
		good + "build: {go: src, run: make}\n":                                              "one of go, a folder, and run",
		good + "build: {go: src, packages: [g++]}\n":                                        "are for run",
		good + "build: {go: ../src}\n":                                                      "beside the manifest",
		good + "build: {run: make, from: /src}\n":                                           "beside the manifest",
		good + "build: {run: make, packages: [Bad]}\n":                                      "Debian package",
		good + "build: {run: \"a\\0b\"}\n":                                                  "zero byte",
		several + "[{name: a, program: b}]\n":                                               `programs: a: program "b" must be an absolute path`,
		several + "[{name: \"a b\", program: /b}]\n":                                        `the name "a b" must be letters`,
		several + "[{name: a, program: /a}, {name: a, program: /b}]\n":                      "there are two with the name a",
		several + "[{name: a, program: /a, restart: maybe}]\n":                              `restart "maybe" must be never, on-failure or always`,
		several + "[{name: a, program: /a, if_failed: cry}]\n":                              `if_failed "cry" must be end or ignore`,
		several + "[{name: a, program: /a, after: {b: started}}]\n":                         `there is no program "b"`,
		several + "[{name: a, program: /a, after: {a: started}}]\n":                         "it waits for itself",
		several + "[{name: a, program: /a}, {name: b, program: /b, after: {a: healthy}}]\n": "no health check",
		several + "[{name: a, program: /a}, {name: b, program: /b, after: {a: dead}}]\n":    `is "dead" must be started, healthy or ended`,
		several + "[{name: a, program: /a, restart: always}, {name: b, program: /b, after: {a: ended}}]\n":       "never ends",
		several + "[{name: a, program: /a, essential: true}, {name: b, program: /b, after: {a: ended}}]\n":       "the machine ends with a",
		several + "[{name: a, program: /a, after: {b: started}}, {name: b, program: /b, after: {a: started}}]\n": "waits for itself through",
		several + "[{name: a, program: /a, essential: true}, {name: b, program: /b, essential: true}]\n":         "both essential",
		several + "[{name: a, pipeline: [{program: /a}]}]\n":                                                     "two programs at least",
		several + "[{name: a, program: /a, pipeline: [{program: /a}, {program: /b}]}]\n":                         "a program and a pipeline",
		several + "[{name: a, program: /a, health: {tcp: 80, command: [/x]}}]\n":                                 "one of tcp, http and command",
		several + "[{name: a, program: /a, health: {tcp: 800000}}]\n":                                            "port 800000",
		several + "[{name: a, program: /a, health: {http: {port: 80, path: x}}}]\n":                              `path "x" must begin`,
		several + "[{name: a, program: /a, health: {command: [x]}}]\n":                                           "absolute path",
		several + "[{name: a, program: /a, health: {tcp: 80, address: here}}]\n":                                 "not an IP address",
		several + "[{name: a, program: /a, health: {tcp: 80, if_unhealthy: cry}}]\n":                             "must be restart or end",
		several + "[{name: a, program: /a, stop_signal: LOUD}]\n":                                                `"LOUD" is not a signal`,
		several + "[{name: a, program: /a, patience: long}]\n":                                                   `"long" is not a time: write it as`,
		several + "[{name: a, program: /a, backoff: 2m}]\n":                                                      "more than backoff_max",
		several + "[{name: a, program: /a, max_restarts: -1}]\n":                                                 "less than 0",
		several + "[{name: a, program: /a, workdir: x}]\n":                                                       "absolute",
		several + "[{name: a, program: /a, args: [\"a\\0b\"]}]\n":                                                "zero byte",
		several + "[{name: a, program: /a, limits: {nosuch: {soft: 1, hard: 1}}}]\n":                             `"nosuch", which is none of as, core`,
		several + "[{name: a, program: /a, colour: red}]\n":                                                      `there is no key "colour"`,
		"name: x\nprogram: /usr/sbin/web/\n":                                                                     `program "/usr/sbin/web/" is a folder`,
		"name: x\nprogram: /usr/sbin/web/.\n":                                                                    "is a folder",
		several + "[{name: a, program: /a/}]\n":                                                                  `program "/a/" is a folder`,
		several + "[{name: a, pipeline: [{program: /a}, {program: /b/}]}]\n":                                     `program "/b/" is a folder`,
		several + "[{name: a, program: /a, health: {command: [/x/]}}]\n":                                         `program "/x/" is a folder`,
	} {
		if _, err := Parse([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", doc, err)
		} else if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "manifest.") || strings.Contains(err.Error(), "unmarshal") {
			t.Errorf("%q is answered in the words of the library: %v", doc, err)
		}
	}
}

func TestConfigHasWhatTheManifestSays(t *testing.T) {
	m, err := Parse([]byte(good + `argv0: httpd
args: [-x, "a b"]
env: {B: "2", PATH: /bin}
memory: 256M
user: {uid: 33, gid: 34}
ports: [80]
mounts: [{type: tmpfs, target: /data, options: size=1M}]
limits: {nofile: {soft: 10, hard: -1}}
network: {mode: static, address: 10.0.0.2/24}
at_exit: reboot
log_level: info
`))
	if err != nil {
		t.Fatal(err)
	}
	c := m.Config()
	if strings.Join(c.Args, "|") != "httpd|-x|a b" || strings.Join(c.Env, " ") != "B=2 HOME=/root PATH=/bin TERM=linux" ||
		c.UID != 33 || c.GID != 34 || c.Memory != 256<<20 || c.Mounts[0].Target != "/data" || c.Limits["nofile"].Hard != -1 ||
		c.Network.Address != "10.0.0.2/24" || c.AtExit != "reboot" || c.LogLevel != "info" || c.Hostname != "web" {
		t.Errorf("%+v", c)
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{"8M": 8 << 20, "1g": 1 << 30, "512KiB": 512 << 10, "100": 100, "2MB": 2 << 20} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%s: %d %v", s, got, err)
		}
	}
	for _, s := range []string{"", "M", "-1M", "0", "1X", "99999999999G", "1.5G"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
}

func TestConfigHasWhatTheManifestSaysOfSeveralPrograms(t *testing.T) {
	m, err := Parse([]byte(several + `
  - name: db
    program: /usr/bin/db
    args: [-x]
    env: {B: "2", A: "1"}
    user: {uid: 5, gid: 6}
    limits: {nofile: {soft: 10, hard: -1}}
    restart: on-failure
    max_restarts: 7
    backoff: 1s
    health: {http: {port: 80, path: /up, status: 204}, interval: 2s, if_unhealthy: end}
  - name: logs
    pipeline: [{program: /bin/cat, args: [/run/log]}, {program: /bin/sort, argv0: s}]
    pipefail: true
  - name: web
    program: /usr/bin/web
    essential: true
    after: {logs: started, db: healthy}
    stop_signal: QUIT
    patience: 1m
`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(m.Config())
	if err != nil {
		t.Fatal(err)
	}
	c, err := image.ParseConfig(b)
	if err != nil {
		t.Fatalf("the kernel refuses it: %v", err)
	}
	want := []image.Program{
		{Name: "db", Exec: image.Exec{Program: "/usr/bin/db", Args: []string{"db", "-x"}, Env: []string{"A=1", "B=2"}, User: &image.User{UID: 5, GID: 6},
			Limits: map[string]image.Limit{"nofile": {Soft: 10, Hard: -1}}}, Restart: "on-failure", MaxRestarts: 7, Backoff: 1e9,
			Health: &image.Health{HTTP: &image.HealthHTTP{Port: 80, Path: "/up", Status: 204}, Interval: 2e9, IfUnhealthy: "end"}},
		{Name: "logs", Pipeline: []image.Exec{{Program: "/bin/cat", Args: []string{"cat", "/run/log"}}, {Program: "/bin/sort", Args: []string{"s"}}}, PipeFail: true},
		{Name: "web", Exec: image.Exec{Program: "/usr/bin/web", Args: []string{"web"}}, Essential: true,
			After: []image.After{{Program: "db", Is: "healthy"}, {Program: "logs", Is: "started"}}, StopSignal: "QUIT", Patience: 60e9},
	}
	if !reflect.DeepEqual([]image.Program(c.Programs), want) {
		t.Errorf("programs\n%+v, not\n%+v", c.Programs, want)
	}
	if got := fmt.Sprint(m.Executables()); got != "[{/usr/bin/db  } {/bin/cat  } {/bin/sort  } {/usr/bin/web  }]" {
		t.Errorf("executables %s", got)
	}
	if c.StopTime() != 80e9 {
		t.Errorf("they may take %d ns to stop", c.StopTime())
	}
}
