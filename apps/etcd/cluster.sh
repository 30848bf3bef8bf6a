# Three members in one machine choose a leader, and a client sees the same from each. Their logs
# are not on the tmpfs of /tmp: each takes twice 64 MB by fallocate, which is memory there. One is
# killed: the others go on, and it catches up when it is back.
set -e
peers=a=http://127.0.0.1:2381,b=http://127.0.0.1:2382,c=http://127.0.0.1:2383
member() {
	etcd --name "$1" --data-dir "/var/lib/$1" --logger zap --log-level error \
		--listen-peer-urls "http://127.0.0.1:238$2" --initial-advertise-peer-urls "http://127.0.0.1:238$2" \
		--listen-client-urls "http://127.0.0.1:239$2" --advertise-client-urls "http://127.0.0.1:239$2" \
		--initial-cluster "$peers" --heartbeat-interval 300 --election-timeout 3000 &
}
at() { n=$1; shift; etcdctl --endpoints "127.0.0.1:239$n" --command-timeout=20s "$@"; }
member a 1
a=$!
member b 2
b=$!
member c 3
c=$!
until at 1 endpoint health >/dev/null 2>&1; do
	kill -0 $a $b $c
	sleep 0.5
done
at 1 put kiln hot
at 2 get kiln
at 3 txn --interactive=false <<'TXN'
value("kiln") = "hot"

put kiln hotter

put kiln cold

TXN
kill -KILL $b
wait $b || echo "a member ended with status $?"
until at 1 put while "one was away" 2>/dev/null; do sleep 0.5; done
member b 2
b=$!
until at 2 endpoint health >/dev/null 2>&1; do sleep 0.5; done
at 2 get while --print-value-only
at 2 get kiln --print-value-only
at 1 member list | grep -c started
kill -TERM $a $b $c
wait $a $b $c || true
