# Makes the system tables at the first boot, then becomes the server.
set -e
if [ ! -d /var/lib/mysql/mysql ]; then
	mariadb-install-db --user=mysql --datadir=/var/lib/mysql --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve >/tmp/install 2>&1 ||
		{ cat /tmp/install; exit 1; }
fi
exec mariadbd "$@"
