package boot

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kiln/tests/tapnet"
)

// waitHTTP waits for a server's first answer.
func waitHTTP(t *testing.T, n *tapnet.Net, url string) {
	t.Helper()
	eventually(t, bootLimit, "an answer", func() error {
		out, err := n.Command("curl", "-fsS", "-m", "2", url).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
}

// stallLimit is how long a load may go without progress.
const stallLimit = 30 * time.Second

// ab runs ApacheBench and fails the test unless every request was answered well.
func ab(t *testing.T, n *tapnet.Net, requests int, url string, flags ...string) {
	t.Helper()
	args := append([]string{"-s", "30", "-n", strconv.Itoa(requests)}, flags...)
	// ab says how far it is each tenth; its own -s ends a connection without progress.
	out, err := progress(t, n.Command("ab", append(args, url)...), stallLimit*time.Duration(max(1, requests/2000)), nil)
	if err != nil {
		t.Fatalf("ab %v: %v\n%s", args, err, out)
	}
	if !regexp.MustCompile(fmt.Sprintf(`Complete requests:\s+%d\n`, requests)).MatchString(out) ||
		!regexp.MustCompile(`Failed requests:\s+0\n`).MatchString(out) || strings.Contains(out, "Non-2xx") {
		t.Fatalf("ab %v:\n%s", args, out)
	}
	// The longest request: none without progress.
	if m := regexp.MustCompile(`100%\s+([0-9]+)`).FindStringSubmatch(out); m != nil {
		if ms, _ := strconv.Atoi(m[1]); time.Duration(ms)*time.Millisecond > stallLimit {
			t.Errorf("ab %v: a request took %d ms", args, ms)
		}
	}
	rate := regexp.MustCompile(`Requests per second:\s+([0-9.]+)`).FindStringSubmatch(out)
	if rate != nil {
		t.Logf("ab %s: %s requests a second", strings.Join(flags, " "), rate[1])
	}
}

// progress runs a command and ends it when it has printed nothing new for the limit.
// Lines that idle matches are no progress.
func progress(t *testing.T, cmd *exec.Cmd, limit time.Duration, idle *regexp.Regexp) (string, error) {
	t.Helper()
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { err := cmd.Wait(); w.Close(); done <- err }()
	lines := make(chan string, 1024)
	go func() {
		sc := bufio.NewScanner(r)
		sc.Split(func(b []byte, eof bool) (int, []byte, error) {
			if i := bytes.IndexAny(b, "\r\n"); i >= 0 {
				return i + 1, b[:i+1], nil
			}
			if eof && len(b) > 0 {
				return len(b), b, nil
			}
			return 0, nil, nil
		})
		for sc.Scan() {
			lines <- sc.Text()
		}
		close(lines)
	}()
	var all strings.Builder
	timer := time.NewTimer(limit)
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				return all.String(), <-done
			}
			if all.Len() < 1<<20 {
				all.WriteString(l)
			}
			if idle == nil || !idle.MatchString(l) {
				timer.Reset(limit)
			}
		case <-timer.C:
			cmd.Process.Kill()
			go func() {
				for range lines {
				}
			}()
			<-done
			return all.String(), fmt.Errorf("no progress for %s", limit)
		}
	}
}

func TestWebServersServeUnderLoadWithoutAFailure(t *testing.T) {
	for _, s := range []struct {
		name string
		port int
	}{{"nginx", 80}, {"go-http", 8080}} {
		for _, m := range machines[:2] {
			t.Run(s.name+"/"+m.name, func(t *testing.T) {
				vm, n := tapMachine(t, image(t, s.name), m.flags...)
				url := fmt.Sprintf("http://%s:%d/", tapnet.GuestIP, s.port)
				waitHTTP(t, n, url)
				ab(t, n, size(1000, 20000), url, "-k", "-c", "64")
				ab(t, n, size(500, 20000), url, "-c", "32")
				waitHTTP(t, n, url)
				if status := vm.Stop(t, 20*time.Second); status != 0 {
					t.Errorf("stopped, it ended with status %d", status)
				}
			})
		}
	}
}

// idleRPS is redis-benchmark saying that nothing happened since it last said something.
var idleRPS = regexp.MustCompile(`rps=0\.0 `)

func TestRedisServesUnderLoadOnEveryTransport(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    []string
		requests int
	}{
		{"MMIO", machines[0].flags, size(2000, 100000)},
		{"PCI", machines[1].flags, size(2000, 100000)},
		{"MMIO without event index", noEventIndex(machines[0].flags), size(1000, 10000)},
		{"PCI without event index", noEventIndex(machines[1].flags), size(1000, 10000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			vm, n := tapMachine(t, image(t, "redis"), c.flags...)
			cli := func(args ...string) (string, error) {
				out, err := n.Command("timeout", append([]string{"10", "redis-cli", "-h", tapnet.GuestIP}, args...)...).CombinedOutput()
				return strings.TrimSpace(string(out)), err
			}
			eventually(t, bootLimit, "PING", func() error {
				if out, err := cli("PING"); err != nil || out != "PONG" {
					return fmt.Errorf("%v: %s", err, out)
				}
				return nil
			})
			for _, step := range [][2]string{
				{"SET k v", "OK"}, {"GET k", "v"}, {"INCR n", "1"}, {"INCR n", "2"}, {"LPUSH l a b c", "3"}, {"LRANGE l 0 -1", "c\nb\na"}, {"GET none", ""},
			} {
				if out, err := cli(strings.Fields(step[0])...); err != nil || out != step[1] {
					t.Errorf("%s gives %q, %v", step[0], out, err)
				}
			}
			out, err := progress(t, n.Command("redis-benchmark", "-h", tapnet.GuestIP, "-t", "set,get,incr,lpush", "-n", strconv.Itoa(c.requests), "-c", "50", "-q"), stallLimit, idleRPS)
			if err != nil || strings.Contains(out, "Error") || strings.Count(out, " requests per second") != 4 {
				t.Errorf("redis-benchmark: %v\n%s", err, lastOf(out))
			}
			for _, l := range regexp.MustCompile(`[A-Z]+: [0-9.]+ requests per second`).FindAllString(out, -1) {
				t.Log(l)
			}
			if out, err := cli("GET", "k"); err != nil || out != "v" {
				t.Errorf("afterwards GET k gives %q, %v", out, err)
			}
			if status := vm.Stop(t, 20*time.Second); status != 0 {
				t.Errorf("stopped, it ended with status %d", status)
			}
		})
	}
}

// noEventIndex turns VIRTIO_F_EVENT_IDX off for every device (virtio 1.2 2.7.10).
func noEventIndex(flags []string) []string {
	return append(append([]string(nil), flags...), "--qemu-arg", "-global", "--qemu-arg", "virtio-device.event_idx=off")
}

func lastOf(out string) string {
	out = strings.ReplaceAll(out, "\r", "\n")
	return out[max(0, len(out)-1000):]
}
