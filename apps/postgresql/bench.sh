#!/bin/sh
# Starts the server, runs pgbench against it with several clients, and shows whether the
# books balance: each transaction of pgbench adds the same amount in four tables. Then a
# backend is killed, and the server has to recover what was committed.
set -e
sql() { psql --no-psqlrc --quiet --tuples-only --no-align "$@"; }
ready() {
	until pg_isready --quiet; do
		kill -0 $server
		sleep 0.2
	done
}
books() {
	sql <<-'SQL'
		select 'accounts', count(*) from pgbench_accounts;
		select 'history', count(*) from pgbench_history;
		select 'balanced', (select sum(abalance) from pgbench_accounts) = sum(delta)
			and (select sum(tbalance) from pgbench_tellers) = sum(delta)
			and (select sum(bbalance) from pgbench_branches) = sum(delta) from pgbench_history;
	SQL
}

sh /etc/postgresql/start.sh &
server=$!
ready
pgbench --quiet --initialize --scale=1
pgbench --no-vacuum --client=8 --jobs=2 --transactions=25 | grep processed
books
# A plan with parallel workers, which share memory made with shm_open.
sql <<'SQL'
set min_parallel_table_scan_size = 0;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
select 'sum', sum(aid) from pgbench_accounts;
\o | grep --only-matching 'Workers Launched: .*'
explain (analyze, costs off, timing off, summary off) select sum(aid) from pgbench_accounts;
SQL
echo "killing a backend"
sql -c "select pg_sleep(100)" &
client=$!
pid=
until [ -n "$pid" ]; do
	pid=$(sql -c "select pid from pg_stat_activity where query like '%sleep(100)' and wait_event = 'PgSleep'")
done
kill -KILL "$pid"
wait $client || echo "the client ended with status $?"
ready
books
kill -INT $server
wait $server
echo "stopped with status $?"
