#!/bin/sh
# Makes the database cluster at the first boot, then becomes the server.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb --username=postgres --auth-local=trust --auth-host=trust --no-instructions --no-sync
	cat /etc/postgresql/access.conf >>"$PGDATA/pg_hba.conf"
fi
exec postgres -c config_file=/etc/postgresql/postgresql.conf -c data_directory="$PGDATA" \
	-c hba_file="$PGDATA/pg_hba.conf" -c ident_file="$PGDATA/pg_ident.conf" "$@"
