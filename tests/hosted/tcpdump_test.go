package hosted

import (
	"regexp"
	"strings"
	"testing"
)

// Debian's tcpdump on the loopback: through a ring of TPACKET_V3, with filters that run in
// the kernel, and what it wrote read again. (boot looks at a card. Each start of tcpdump, with its
// thirty libraries, takes two seconds here.)
func TestTcpdumpOfDebian(t *testing.T) {
	res := shellRun(t, `
cd /tmp
say() { echo "=== $1"; }
# watch NAME ARGUMENTS runs tcpdump until it has its packets; send does what brings them.
watch() { local n=$1; shift; : > $n.err; tcpdump -Z root -n -i lo "$@" > $n.out 2> $n.err & pid=$!; until grep -q listening $n.err; do sleep 0.05; done; }
send() { for i in 1 2 3; do echo "hello $i" > /dev/udp/127.0.0.1/$1; done; }
watch written -c 3 -w three.pcap udp dst port 4321 and less 60; send 4322; send 4321; wait $pid
say status; echo $?; cat written.err
say read; tcpdump -Z root -n -r three.pcap 'udp[8:2] = 0x6865'
watch all -i any -c 2 -y LINUX_SLL2 udp port 4325; send 4325; wait $pid
say any; cat all.out
say end
`, "tcpdump", "sleep", "cat", "grep")
	for name, wants := range map[string][]string{
		"status": {`^0\n`, `3 packets captured`, `0 packets dropped by kernel`},
		"read":   {`IP 127\.0\.0\.1\.\d+ > 127\.0\.0\.1\.4321: UDP, length 8\n(?s:.*)4321: UDP, length 8\n(?s:.*)4321: UDP, length 8\n`},
		"any":    {`lo    In  IP 127\.0\.0\.1\.\d+ > 127\.0\.0\.1\.4325: UDP`},
	} {
		got := section(t, res.Output, name)
		for _, w := range wants {
			if !regexp.MustCompile(w).MatchString(got) {
				t.Errorf("%s: no %q in:\n%s", name, w, got)
			}
		}
	}
	if t.Failed() {
		t.Log(tail(res.Log))
	}
	if !strings.Contains(res.Output, "=== end") {
		t.Error("the script did not end")
	}
}
