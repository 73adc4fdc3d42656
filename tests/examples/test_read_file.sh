#!/bin/sh
# SPDX-License-Identifier: MIT
# The README's example prints a file byte for byte, and fails when it cannot read or write.
# Usage: test_read_file.sh PROGRAM
set -eu
program=$1
file=$(mktemp)
trap 'rm -f "$file" "$file.copy"' EXIT
head -c 100000 /dev/urandom >"$file"

"$program" "$file" >"$file.copy"
cmp "$file" "$file.copy"
if "$program" /nonexistent 2>/dev/null; then
    echo "a missing file was not reported"
    exit 1
fi
if "$program" "$file" >/dev/full 2>/dev/null; then
    echo "a full disk was not reported"
    exit 1
fi
