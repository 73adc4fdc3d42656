#!/bin/sh
# SPDX-License-Identifier: MIT
# The loop reads a file through the ring and serves its own input meanwhile.
# Usage: test_in_epoll_loop.sh PROGRAM
set -eu
program=$1
file=$(mktemp)
trap 'rm -f "$file" "$file.output"' EXIT
head -c 1000000 /dev/urandom >"$file"

printf 'hello\n' | timeout 20 "$program" "$file" >"$file.output"
grep -qx 'input: hello' "$file.output"
grep -qx '1000000 bytes' "$file.output"
if printf '' | timeout 20 "$program" /nonexistent 2>/dev/null; then
    echo "a missing file was not reported"
    exit 1
fi
if printf '' | timeout 20 "$program" / 2>/dev/null; then
    echo "a directory was not reported"
    exit 1
fi
