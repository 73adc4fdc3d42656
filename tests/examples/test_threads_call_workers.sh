#!/bin/sh
# SPDX-License-Identifier: MIT
# Threads without a ring have their pieces compressed and uncompressed by workers, also while those crash.
# Usage: test_threads_call_workers.sh PROGRAM WORKER [SANITIZE]
set -eu
program=$1
worker=$2
sanitize=${3:-}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# A sanitizer would turn the crash that is wanted into a report and an exit; and it needs more than a sandbox
# leaves.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:handle_segv=0"
sandbox=strict
[ -z "$sanitize" ] || sandbox=none

seq 1 60000 >"$place/numbers"

number_before() {
    sed -n "s/^/ /; s/.* \([0-9][0-9]*\) $1.*/\1/p" "$place/out"
}

# 22 pieces a round.
"$program" "$worker" "$place/numbers" 4 40 0 "$sandbox" >"$place/out"
cat "$place/out"
[ "$(cat "$place/out")" = "880 of 880 pieces, 0 calls made again, 0 restarts, 0 failures" ]

"$program" "$worker" "$place/numbers" 4 20 20 "$sandbox" >"$place/out"
cat "$place/out"
[ "$(number_before "of 440 pieces")" = 440 ]
[ "$(number_before "failures")" = 0 ]
[ "$(number_before "restarts")" -ge 10 ]

if "$program" "$worker" /nonexistent 1 1 0 2>/dev/null; then
    echo "a missing file was not reported"
    exit 1
fi
if "$program" /nonexistent "$place/numbers" 1 1 0 >/dev/null 2>&1; then
    echo "a missing worker was not reported"
    exit 1
fi
if "$program" "$worker" "$place/numbers" 0 1 0 2>/dev/null; then
    echo "no threads were not reported"
    exit 1
fi
