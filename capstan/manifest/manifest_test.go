package manifest

import (
	"strings"
	"testing"
)

const good = "name: web\nprogram: /usr/bin/web\n"

func TestMistakesInAManifestAreErrors(t *testing.T) {
	for doc, want := range map[string]string{
		"":                                                                     "empty",
		good + "prots: [80]\n":                                                 "prots",
		good + "---\nname: two\n":                                              "more than one",
		"name: a b\nprogram: /x\n":                                             "name",
		"name: x\nprogram: bin/x\n":                                            "absolute",
		good + "ports: [0]\n":                                                  "port 0",
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
		good + "smoke: [{http: {port: 1}, tcp: {port: 2}}]\n":                  "both",
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
		good + "mounts: [{type: tmpfs, target: d}]\n":                          "absolute",
		good + "mounts: [{type: tmpfs, target: /d, options: \"size=lots\"}]\n": "size=64M",
		good + "network: {mode: static}\n":                                     "10.0.0.2/24",
		good + "network: {mode: static, address: 10.0.0.1}\n":                  "10.0.0.2/24",
		good + "network: {mode: static, address: 10.0.0.1/8, gateway: \"fe80::1\"}\n": "same family",
		good + "network: {address: 10.0.0.1/8}\n":                                     "only mode static",
		good + "network: {dns: [x]}\n":                                                "not an address",
		good + "network: {mtu: 5}\n":                                                  "between 68",
		good + "hostname: \"a b\"\n":                                                  "hostname",
		good + "workdir: rel\n":                                                       "absolute",
		good + "users: [{name: \"a:b\", uid: 1}]\n":                                   "/etc/passwd",
		good + "args: [\"a\\0b\"]\n":                                                  "zero byte",
		good + "packages: [Bad/Name]\n":                                               "Debian package",
		"name: x\nprogram: /\n":                                                       "is a folder",
		"name: [":                                                                     "not right",
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
