package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Debian's network tools on a machine with a card: its addresses and routes are there,
// change, and work.
func TestNetworkToolsOfDebian(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nettools")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	manifest := `name: nettools
program: /bin/bash
args: [/script]
env: {PATH: "/bin:/sbin:/usr/bin:/usr/sbin", LC_ALL: C}
network: {mode: static, address: 10.0.2.15/24, gateway: 10.0.2.2}
files:
  - {path: /script, from: script}
  - {path: /usr/bin/ss}
  - {path: /usr/bin/ping}
  - {path: /sbin/ip}
  - {path: /sbin/ifconfig}
  - {path: /sbin/route}
  - {path: /usr/sbin/arp}
  - {path: /usr/bin/sleep}
  - {path: /usr/bin/cat}
  - {path: /usr/bin/grep}
  - {path: /usr/bin/tcpdump}
`
	script := `say() { echo "=== $1"; }
say addr; ip -br -4 addr; ip route
say ping; ping -c 2 -i 0.2 -W 5 10.0.2.2
say neigh; ip -4 neigh; arp -n
say ifconfig; ifconfig eth0; route -n
say monitor; ip monitor route address link > /tmp/mon & m=$!
sleep 0.3
ip addr add 10.0.3.1/24 dev eth0; ip route add 10.9.0.0/16 via 10.0.3.9; ip route get 10.9.1.1
ip neigh add 10.0.3.9 lladdr 02:00:00:00:00:09 dev eth0; ip neigh show 10.0.3.9
ip route add 10.8.0.0/16 via 192.168.9.9
ip addr del 10.0.3.1/24 dev eth0; sleep 0.3; kill $m; cat /tmp/mon
say down; ip link set eth0 down; ip -br link; ip route; ip link set eth0 up; ip route add default via 10.0.2.2; ip route
say again; ping -c 1 -W 5 10.0.2.2
say route; route add -net 172.16.0.0 netmask 255.240.0.0 gw 10.0.2.3; route -n; route del -net 172.16.0.0 netmask 255.240.0.0; ifconfig eth0 mtu 1400; ifconfig eth0
say tcpdump; tcpdump -Z root -n -i eth0 -c 2 icmp and host 10.0.2.2 > /tmp/td 2>&1 & t=$!
until grep -q listening /tmp/td; do sleep 0.1; done; ping -c 1 -W 5 10.0.2.2 > /dev/null; wait $t; cat /tmp/td
say ss; exec 3<>/dev/udp/10.0.2.3/53; ss -uan; ss -tan; ss -xan
say end
`
	for name, text := range map[string]string{"manifest.yaml": manifest, "script": script} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, status := run(t, bootLimit, image(t, dir), []string{"--net", "user"})
	if status != 0 {
		t.Errorf("status %d", status)
	}
	out = strings.ReplaceAll(out, "\r", "")
	for name, wants := range map[string][]string{
		"addr":     {"10.0.2.15/24", "default via 10.0.2.2 dev eth0", "10.0.2.0/24 dev eth0 proto kernel scope link src 10.0.2.15"},
		"ping":     {"2 packets transmitted, 2 received, 0% packet loss"},
		"neigh":    {"10.0.2.2 dev eth0 lladdr 52:5", "10.0.2.2                 ether   52:5"},
		"ifconfig": {"inet 10.0.2.15  netmask 255.255.255.0  broadcast 10.0.2.255", "0.0.0.0         10.0.2.2        0.0.0.0         UG"},
		"monitor": {"10.9.1.1 via 10.0.3.9 dev eth0 src 10.0.3.1", "10.0.3.9 dev eth0 lladdr 02:00:00:00:00:09 PERMANENT", "Nexthop has invalid gateway|Network is unreachable",
			"inet 10.0.3.1/24", "10.9.0.0/16 via 10.0.3.9 dev eth0", "Deleted 10.0.3.0/24 dev eth0 proto kernel scope link src 10.0.3.1"},
		"down":    {"eth0             DOWN", "default via 10.0.2.2 dev eth0"},
		"again":   {"1 packets transmitted, 1 received"},
		"route":   {"172.16.0.0      10.0.2.3        255.240.0.0     UG", "mtu 1400"},
		"tcpdump": {"10.0.2.15 > 10.0.2.2: ICMP echo request, id", "10.0.2.2 > 10.0.2.15: ICMP echo reply, id", "0 packets dropped by kernel"},
		"ss":      {"10.0.2.15:", "10.0.2.3:53"},
	} {
		_, got, ok := strings.Cut(out, "=== "+name+"\n")
		if !ok {
			t.Errorf("no section %s", name)
			continue
		}
		got, _, _ = strings.Cut(got, "=== ")
	next:
		for _, w := range wants {
			for _, one := range strings.Split(w, "|") {
				if strings.Contains(got, one) {
					continue next
				}
			}
			t.Errorf("%s: no %q in:\n%s", name, w, got)
		}
	}
}
