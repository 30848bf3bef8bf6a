package hosted

import (
	"strings"
	"testing"
)

// Debian's own tools see and change the network: what they print is what Linux's users
// know.
func TestNetworkToolsOfDebian(t *testing.T) {
	res := shellRun(t, `
cd /tmp
say() { echo "=== $1"; }
say link; ip link
say address; ip -4 addr add 10.9.8.7/24 dev lo; ip -br addr
say route; ip route add 10.20.0.0/16 dev lo; ip route; ip route add 10.20.0.0/16 dev lo; ip route del 10.20.0.0/16; ip route; ip route get 127.0.0.1
say rule; ip rule
say monitor
ip monitor address > mon & m=$!
sleep 0.3; ip addr add 10.9.7.7/32 dev lo; ip addr del 10.9.7.7/32 dev lo; sleep 0.3; kill $m; wait $m 2>/dev/null; cat mon
say mtu; ip link set lo mtu 1500; ifconfig lo | head -1; ifconfig lo mtu 65536; cat /sys/class/net/lo/mtu
say ifconfig; ip addr del 10.9.8.7/24 dev lo; ifconfig lo 127.0.0.2; ifconfig lo | grep inet; ifconfig lo 127.0.0.1
say user; ip link set lo down; ip -br link; ip link set lo up
say ss
coproc SERVER { exec 3<>/dev/tcp/127.0.0.1/1; }
ss -tlnp; ss -xa | head -1; ss -s | head -2
say ping; ping -c 2 -i 0.2 -W 2 127.0.0.1; ping -c 1 -W 2 ::1 | head -2
say end
`, "ip", "ss", "ifconfig", "ping", "sleep", "cat", "head", "grep")
	for section_, wants := range map[string][]string{
		"link":     {"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536", "link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00"},
		"address":  {"127.0.0.1/8 ", "10.9.8.7/24 ", "::1/128"},
		"route":    {"10.20.0.0/16 dev lo scope link", "RTNETLINK answers: File exists", "local 127.0.0.1 dev lo"},
		"rule":     {"0:\tfrom all lookup local", "32766:\tfrom all lookup main", "32767:\tfrom all lookup default"},
		"monitor":  {"inet 10.9.7.7/32", "Deleted 1: lo    inet 10.9.7.7/32"},
		"mtu":      {"lo: flags=73<UP,LOOPBACK,RUNNING>  mtu 1500", "\n65536\n"},
		"ifconfig": {"inet 127.0.0.2  netmask 255.0.0.0"},
		"user":     {"lo               DOWN"},
		"ss":       {"State", "Netid", "Total: "},
		"ping":     {"2 packets transmitted, 2 received, 0% packet loss", "from ::1"},
	} {
		got := section(t, res.Output, section_)
		for _, w := range wants {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in:\n%s", section_, w, got)
			}
		}
	}
	if t.Failed() {
		t.Log(tail(res.Log))
	}
}
