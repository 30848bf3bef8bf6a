# Starts the server that is named and asks it, by UDP and TCP, IPv4 and IPv6.
"$@" &
server=$!
until dig +short +tries=1 +time=1 @127.0.0.1 oven.kiln.test A >/tmp/up 2>/dev/null && grep -q 192 /tmp/up; do
	kill -0 $server || exit 1
	sleep 0.2
done
ask() { echo "$*:" $(dig +short +tries=3 +time=10 "$@" | sort); }
ask @127.0.0.1 oven.kiln.test A
ask @127.0.0.1 +tcp oven.kiln.test AAAA
ask @::1 www.kiln.test A
ask @127.0.0.1 a.wild.kiln.test A
ask @127.0.0.1 oven.kiln.test TXT
ask @127.0.0.1 kiln.test MX
ask @127.0.0.1 _http._tcp.kiln.test SRV
ask @127.0.0.1 -x 192.0.2.1
dig @127.0.0.1 none.kiln.test A | grep -o 'status: [A-Z]*'
echo "transferred $(dig @127.0.0.1 kiln.test AXFR | grep -c IN) records"
kill -TERM $server
wait $server
echo "stopped with status $?"
