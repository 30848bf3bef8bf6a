# Keys of those who may log in come from outside (pack run -e AUTHORIZED_KEYS="$(cat ~/.ssh/id_ed25519.pub)").
umask 077
mkdir -p /root/.ssh
[ -z "$AUTHORIZED_KEYS" ] || printf '%s\n' "$AUTHORIZED_KEYS" >> /root/.ssh/authorized_keys
[ -s /root/.ssh/authorized_keys ] || echo "dropbear: nobody can log in: set AUTHORIZED_KEYS" >&2
unset AUTHORIZED_KEYS
# Who is logged in, for w and who.
umask 022
: > /run/utmp
: > /var/log/wtmp
: > /var/log/lastlog
# -R makes a host key when the first client comes; -s: no passwords.
exec /usr/sbin/dropbear -F -E -R -s -p 22
