package smoke

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bufio"

	"golang.org/x/crypto/ssh"
	"gopkg.in/yaml.v3"
	"kiln/capstan/manifest"
)

// The test's own executable stands in for pack: `run ... -p HOST:GUEST REF` does what
// KILN_SMOKE_FAKE says.
func TestMain(m *testing.M) {
	if mode := os.Getenv("KILN_SMOKE_FAKE"); mode != "" {
		fakePack(mode)
	}
	os.Exit(m.Run())
}

func fakePack(mode string) {
	host := ""
	for i, a := range os.Args {
		if a == "-p" {
			host, _, _ = strings.Cut(os.Args[i+1], ":")
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	verb, arg, _ := strings.Cut(mode, " ")
	switch verb {
	case "http":
		time.Sleep(300 * time.Millisecond) // it boots
		go http.ListenAndServe("127.0.0.1:"+host, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, arg) }))
	case "late": // it answers before it is ready
		var said atomic.Value
		said.Store(arg[:1])
		go http.ListenAndServe("127.0.0.1:"+host, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, said.Load()) }))
		time.Sleep(300 * time.Millisecond)
		said.Store(arg)
		fmt.Println("ready")
	case "tcp":
		l, err := net.Listen("tcp", "127.0.0.1:"+host)
		if err != nil {
			os.Exit(9)
		}
		go func() {
			for n := 0; ; n++ {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if n == 0 { // as QEMU's user network while the machine boots
					c.Close()
					continue
				}
				go func() {
					for r := bufio.NewReader(c); ; {
						line, err := r.ReadString('\n')
						if err != nil {
							return
						}
						fmt.Fprint(c, "echo ", line)
					}
				}()
			}
		}()
	case "ssh":
		go serveSSH(host, os.Args)
	case "say":
		for _, w := range strings.Fields(arg) {
			fmt.Println(w)
		}
	case "control":
		go fakeControl()
	case "end":
		fmt.Print("first\r\nsecond\r\n")
		os.Exit(len(arg))
	}
	<-stop
	if verb == "stubborn" {
		<-stop
		os.Exit(137)
	}
	os.Exit(143)
}

const sshSpec = `ssh: {port: 22, user: u, key_env: KEY, sessions: [`

// serveSSH is a server that lets the key in that `-e KEY=…` gave: a command is said back,
// a shell says back lines until "end", behind the name of the request for a terminal if
// there was one. All end with status 3.
func serveSSH(port string, args []string) {
	line := ""
	for i, a := range args {
		if a == "-e" {
			line = strings.TrimPrefix(args[i+1], "KEY=")
		}
	}
	want, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		os.Exit(9)
	}
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(k.Marshal(), want.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	own, _, _ := newKey()
	cfg.AddHostKey(own)
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		os.Exit(9)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, chans, reqs, err := ssh.NewServerConn(c, cfg)
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			for n := range chans {
				if ch, in, err := n.Accept(); err == nil {
					go answerSSH(ch, in)
				}
			}
		}()
	}
}

func answerSSH(ch ssh.Channel, in <-chan *ssh.Request) {
	before := ""
	for r := range in {
		r.Reply(true, nil)
		switch r.Type {
		case "pty-req":
			before = "pty-req "
			continue
		case "exec":
			fmt.Fprintf(ch, "exec %s\n", r.Payload[4:])
		case "shell":
			for lines := bufio.NewScanner(ch); lines.Scan() && lines.Text() != "end"; {
				fmt.Fprintf(ch, "%s%s\n", before, lines.Text())
			}
		default:
			continue
		}
		ch.SendRequest("exit-status", false, []byte{0, 0, 0, 3})
		ch.Close()
	}
}

func try(t *testing.T, fake, spec string) error {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var s manifest.Smoke
	if err := yaml.Unmarshal([]byte(spec), &s); err != nil {
		t.Fatal(err)
	}
	r := &Runner{Pack: exe, Env: []string{"KILN_SMOKE_FAKE=" + fake}, Limit: 1500 * time.Millisecond}
	return r.Run(context.Background(), "x", &s)
}

func TestWhatWorksPassesAndWhatDoesNotFails(t *testing.T) {
	for _, c := range []struct {
		fake, spec string
		want       string // in the error; "" passes
	}{
		{"http hello", "http: {port: 80, path: /, contains: [hello]}\nrequests: 3", ""},
		{"http hello", "http: {port: 80, path: /, contains: [goodbye]}", `without "goodbye"`},
		{"http hello", "http: {port: 80, path: /, status: 404}", "gives status 200, not 404"},
		{"late hello", "ready: ready\nhttp: {port: 80, path: /, contains: [hello]}", ""},
		{"late hello", "http: {port: 80, path: /, contains: [hello]}", `without "hello"`},
		{"late hello", "ready: steady\nhttp: {port: 80, path: /, contains: [hello]}", `does not show "steady"`},
		{"silent", "http: {port: 80, path: /}", "no answer in time"},
		{"end", "http: {port: 80, path: /}", "ended with status 0 before"},
		{"tcp", `tcp: {port: 1, steps: [{send: "a\n", expect: "echo a\n"}, {send: "b\n", expect: "echo b\n"}]}`, ""},
		{"tcp", `tcp: {port: 1, steps: [{send: "a\n", expect: "echo b\n"}]}`, "not \"echo b"},
		{"tcp", `tcp: {port: 1, steps: [{send: "a\n", expect: "echo a\nmore"}]}`, "then:"},
		{"end", "output: [first, second]", ""},
		{"end xxx", "output: [second]\nstatus: 3", ""},
		{"end", "output: [second, first]", `"first" in its place`},
		{"end", "output: [firs]", `"firs"`},
		{"end xxx", "status: 4", "is 3, not 4"},
		{"stubborn", "output: [x]", `did not end in time; the console does not show the line "x"`},
		{"ssh", sshSpec + `{run: "a", output: [exec a], status: 3}]}`, ""},
		{"ssh", sshSpec + `{run: "a", output: [exec b], status: 3}]}`, `"exec b" in its place`},
		{"ssh", sshSpec + `{run: "a"}]}`, "is 3, not 0"},
		{"ssh", sshSpec + `{pty: true, dialog: [{send: "x\n", expect: "pty-req x"}, {send: "y\n", expect: "y"}, {send: "end\n", expect: ""}], status: 3}]}`, ""},
		{"ssh", sshSpec + `{dialog: [{send: "x\n", expect: "pty-req x"}], status: 3}]}`, "does not come in time"},
	} {
		err := try(t, c.fake, c.spec)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s with %s: %v", c.fake, c.spec, err)
		}
	}
}

func TestStepsDoWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		fake, spec string
		want       string
	}{
		{"http hello 12", `steps: [{http: {port: 80, path: /, contains: [hello], save: {n: 'hello (\d+)'}}}, {http: {port: 80, path: /, contains: ["hello ${n}"], lacks: ["${n}1"]}, requests: 20, parallel: 4}]`, ""},
		{"http hello 12", `steps: [{http: {port: 80, path: /, lacks: [hello]}}]`, `step 1: GET / gives 8 bytes with "hello"`},
		{"http hello 12", `steps: [{http: {port: 80, path: /, contains: ["${no}"]}}]`, `no step has saved a variable "no"`},
		{"http hello 12", `steps: [{http: {port: 80, path: /}}, {load: {http: {port: 80, path: /}, parallel: 3}}, {end_load: {after: 30}}]`, ""},
		{"http hello 12", `steps: [{http: {port: 80, path: /}}, {load: {http: {port: 80, path: /, contains: [bye]}}}, {end_load: {after: 30}}]`, `after 0 requests: GET / gives`},
		{"http hello 12", `steps: [{end_load: {}}]`, "no load to end"},
		{"tcp", `steps: [{tcp: {port: 1, steps: [{send: "a1b\n", until: '(\d)b\n', save: x}, {send: "${x}\n", expect: "echo 1\n"}]}}]`, ""},
		{"tcp", `steps: [{tcp: {port: 1, steps: [{send: "a\n", until: "nothing"}]}}]`, `does not match "nothing"`},
		{"say one two", `steps: [{console: one}, {console: two}]`, ""},
		{"say one two", `steps: [{console: two}, {console: one}]`, `does not show "one"`},
		{"control", `steps: [{run: {program: /bin/x, status: 3}}, {put: {path: /x, text: a}}, {signal: {signal: HUP, pid: "5"}}, {end: {signal: QUIT, status: 7}}]`, ""},
		{"control", `steps: [{run: {program: /bin/x}}]`, `the machine says "exit 3", not "exit 0"`},
		{"control", `steps: [{end: {signal: QUIT, status: 8}}]`, "is 7, not 8"},
	} {
		err := try(t, c.fake, c.spec)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s with %s: %v", c.fake, c.spec, err)
		}
	}
}

// fakeControl is the machine's end of --control: programs end with status 3, files can be
// written, and SIGQUIT ends it with status 7.
func fakeControl() {
	for i, a := range os.Args {
		if a != "--control" {
			continue
		}
		l, err := net.Listen("unix", os.Args[i+1])
		if err != nil {
			os.Exit(9)
		}
		c, err := l.Accept()
		if err != nil {
			os.Exit(9)
		}
		for sc := bufio.NewScanner(c); sc.Scan(); {
			switch f := strings.Fields(sc.Text()); {
			case f[0] == "run":
				fmt.Fprintln(c, "ran", f[1], "exit 3")
			case f[0] == "put" && f[2] == "/x" && f[3] == "YQ==":
				fmt.Fprintln(c, "ran", f[1], "ok")
			case sc.Text() == "signal 3":
				os.Exit(7)
			case sc.Text() != "signal 1 5":
				os.Exit(8)
			}
		}
	}
}
