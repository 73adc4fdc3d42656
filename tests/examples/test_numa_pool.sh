#!/bin/sh
# SPDX-License-Identifier: MIT
# The example counts a file to the byte, says where its memory is, and fails when it cannot read.
# Usage: test_numa_pool.sh PROGRAM
set -eu
program=$1
file=$(mktemp)
trap 'rm -f "$file" "$file.out"' EXIT
head -c 5000001 /dev/zero >"$file" # more than two buffers

"$program" "$file" >"$file.out"
cat "$file.out"
grep -qx 'read: 5000001 bytes' "$file.out"
grep -Eqx 'memory: (all 4194304 bytes are on node [0-9]+|somewhere, because: .+)' "$file.out"
grep -Eqx 'pages: (huge|(transparent huge|normal), because: .+)' "$file.out"
if "$program" /nonexistent 2>/dev/null; then
    echo "a missing file was not reported"
    exit 1
fi
