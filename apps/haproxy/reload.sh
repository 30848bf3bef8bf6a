# The master process replaces its worker, which hands its listening sockets over, while many
# clients ask: no request may be lost.
set -e
haproxy -W -S /run/master.sock -f /etc/haproxy/haproxy.cfg &
master=$!
until ab -q -n 1 http://127.0.0.1/ >/dev/null 2>&1; do
	kill -0 $master
	sleep 0.2
done
page() { ab -v 4 -n 1 http://127.0.0.1/ | grep -o "by ..."; }
for i in 1 2 3 4; do page; done | sort | uniq -c
ab -q -n 600 -c 10 http://127.0.0.1/ >/tmp/ab &
load=$!
kill -USR2 $master
wait $load
grep -E '^(Complete|Failed|Non-2xx)' /tmp/ab
kill -USR1 $master
wait $master || echo "the master ended with status $?"
