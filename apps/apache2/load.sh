# Serves a page to many clients at a time with the configuration that is named, and
# restarts the server gracefully in the middle: no request may be lost.
set -e
apache2 -f "$1" -D FOREGROUND &
server=$!
status() { ab -v 4 -n 1 "http://127.0.0.1/server-status?auto" | sed -n "s/^$1: //p"; }
until ab -q -n 1 http://127.0.0.1/ >/dev/null 2>&1; do
	kill -0 $server
	sleep 0.2
done
status ServerMPM
generation=$(status ParentServerMPMGeneration)
# Without keep-alive: a server that is busy or about to end may close a connection between
# two requests, and that would count as lost.
ab -q -n 400 -c 12 http://127.0.0.1/ >/tmp/ab &
load=$!
for i in 1 2; do
	apache2 -f "$1" -k graceful
	until [ "$(status ParentServerMPMGeneration)" = $((generation + i)) ]; do
		sleep 0.1
	done
done
wait $load
grep -E '^(Complete|Failed) requests' /tmp/ab
echo "restarted 2 times"
ab -v 4 -n 1 "http://127.0.0.1/cgi-bin/hello.cgi?a=b" | grep '^hello'
apache2 -f "$1" -k graceful-stop
wait $server
echo "stopped with status $?"
