package smoke

import (
	"context"
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
		{"stubborn", "output: [x]", "did not end in time"},
	} {
		err := try(t, c.fake, c.spec)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s with %s: %v", c.fake, c.spec, err)
		}
	}
}
