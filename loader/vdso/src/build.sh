#!/bin/sh
# Makes vdso.so (or $1, an absolute name) from vdso.c, and prints the tools that made it.
set -eu
cd "$(dirname "$0")"
out=${1:-../vdso.so}
gcc -std=gnu11 -O2 -fPIC -ffreestanding -fno-stack-protector -fno-builtin -fcf-protection=none \
	-mno-sse -mno-red-zone -march=x86-64 -fasynchronous-unwind-tables -Wall -Wextra -Werror \
	-nostdlib -shared -Wl,-soname=linux-vdso.so.1 -Wl,--hash-style=both -Wl,-Bsymbolic \
	-Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--build-id=none -Wl,--eh-frame-hdr \
	-Wl,-T,vdso.lds -Wl,--no-undefined -o "$out" vdso.c
strip --strip-unneeded --remove-section=.comment "$out"
gcc -dumpfullversion | sed 's/^/gcc /'
ld --version | head -n 1
