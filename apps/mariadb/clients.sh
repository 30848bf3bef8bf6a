# Several clients at a time move amounts between accounts, in transactions that lock rows and
# sometimes meet; the sum must stay. Then a rollback, a dump of what an index finds, and a
# clean stop.
set -e
sh /etc/mysql/start.sh &
server=$!
sql() { mariadb --batch --skip-column-names "$@"; }
until sql -e "select 1" >/dev/null 2>&1; do
	kill -0 $server
	sleep 0.3
done
sql <<'SQL'
create database bank;
create user teller@'127.0.0.1' identified by 'secret';
grant all on bank.* to teller@'127.0.0.1';
use bank;
create table account (id int primary key, amount bigint not null, key (amount)) engine=InnoDB;
insert into account select seq, 1000 from seq_1_to_500;
create table log (id int auto_increment primary key, client int, at timestamp(6) default now(6)) engine=Aria;
delimiter //
create procedure move(client int, times int)
begin
	declare i int default 0;
	declare a, b int;
	while i < times do
		set a = 1 + (client * 7 + i * 13) mod 500, b = 1 + (client * 11 + i * 17) mod 500;
		start transaction;
		-- In the order of the rows, so that two clients cannot wait for each other.
		select count(*) into @n from account where id in (a, b) order by id for update;
		update account set amount = amount - i where id = a;
		update account set amount = amount + i where id = b;
		commit;
		insert into log (client) values (client);
		set i = i + 1;
	end while;
end //
SQL
clients=
for c in 1 2 3 4 5 6; do
	sql --protocol=tcp --host=127.0.0.1 --user=teller --password=secret bank -e "call move($c, 40)" &
	clients="$clients $!"
done
for c in $clients; do
	wait "$c"
done
sql bank <<'SQL'
select 'sum', sum(amount), 'log', (select count(*) from log) from account;
start transaction;
delete from account;
rollback;
select 'after rollback', count(*) from account;
select 'json', json_value('{"a": [1, 2, {"b": "kiln"}]}', '$.a[2].b'), regexp_replace('Kiln', 'K(.*)', '\\1k');
SQL
kill -TERM $server
wait $server
echo "stopped with status $?"
