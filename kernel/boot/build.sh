#!/bin/sh
# Rebuilds stub.bin from stub.S with GNU as and ld; $1 is the output.
set -e
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
as --64 -o "$d/stub.o" stub.S
ld -Ttext=0x100000 -e _start --oformat binary -o "$1" "$d/stub.o"
