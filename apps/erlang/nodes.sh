# Two nodes in one machine, which find each other through epmd and talk over loopback.
set -e
cd /tmp
erl -sname one@localhost -setcookie kiln -noinput &
first=$!
erl -sname two@localhost -setcookie kiln -noshell -eval 'c:c("/srv/ring"), ring:main(["one@localhost"])'
wait $first
echo "the first node ended with status $?"
