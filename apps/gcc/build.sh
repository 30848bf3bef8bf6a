# Builds the C project of /srv/project in a folder of its own, with several jobs at a
# time, and runs what comes out.
set -e
cp -r /srv/project /tmp/project
cd /tmp/project
make -j4 CC=gcc
./primes
echo "built"

# What is up to date is left alone, and what is older than a file it needs is not.
make --question
sed -i 's/standard deviation/deviation/' main.c
make -j4 CC=gcc | grep -c '^gcc'
./primes

# A mistake is reported and stops make.
sed -i 's/return sqrt/return sqart/' stat.c
if make -j4 --keep-going CC=gcc 2>errors; then
	echo "the mistake went unnoticed"
fi
grep -o "implicit declaration of function .sqart." errors
tail -n 1 errors
