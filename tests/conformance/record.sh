#!/bin/sh
# Runs the conformance programs on Debian's Linux 6.1 in QEMU and stores what they
# print in testdata. Needs QEMU, gcc, musl-gcc, apt-get; a few minutes.
cd "$(dirname "$0")/../.." && exec go run ./tests/conformance/record "$@"
