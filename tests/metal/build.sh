#!/bin/sh
# build.sh PACKAGE OUT: links a kernel and makes it bootable.
set -e
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOAMD64=v1 go build -trimpath \
  -ldflags "-T -2145386496 -E kiln/kernel/metal.start -X runtime.godebugDefault=decoratemappings=0,madvdontneed=1" \
  -o "$2.elf" "$1"
go run ./cmd/mkkernel "$2.elf" "$2"
