#!/bin/sh
# SPDX-License-Identifier: MIT
# The example's worker crashes again and again; every call has one answer, and what was compressed comes back
# as it was. Without crashes nothing is restarted. Usage: test_crash_proof.sh PROGRAM WORKER [SANITIZE]
set -eu
program=$1
worker=$2
sanitize=${3:-}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# A sanitizer would turn the crash that is wanted into a report and an exit.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:handle_segv=0"
# And it needs more than a sandbox leaves: files, and to trace itself.
sandbox=strict
[ -z "$sanitize" ] || sandbox=none

seq 1 60000 >"$place/numbers"
head -c 100001 /dev/urandom >"$place/noise"

number_before() {
    sed -n "s/^/ /; s/.*[ (]\([0-9][0-9]*\) $1.*/\1/p" "$place/out"
}

"$program" "$worker" "$place/numbers" 2000 100 "$sandbox" >"$place/out"
cat "$place/out"
[ "$sandbox" = none ] || [ "$(number_before "of 16 layers")" -ge 9 ]
[ "$(number_before calls)" -ge 2000 ]
[ "$(number_before calls)" = "$(number_before answers)" ]
[ "$(number_before differences)" = 0 ]
[ "$(number_before restarts)" -ge 15 ]
[ "$(number_before "of them")" -ge "$(number_before restarts)" ]

"$program" "$worker" "$place/noise" 200 0 "$sandbox" >"$place/out"
cat "$place/out"
[ "$(number_before restarts)" = 0 ]
[ "$(number_before "of them")" = 0 ]
[ "$(number_before calls)" = "$(number_before answers)" ]

if "$program" "$worker" /nonexistent 10 0 2>/dev/null; then
    echo "a missing file was not reported"
    exit 1
fi
if "$program" /nonexistent "$place/noise" 10 0 >/dev/null 2>&1; then
    echo "a missing worker was not reported"
    exit 1
fi
if "$program" /bin/true "$place/noise" 10 0 >/dev/null 2>&1; then
    echo "a worker that is none was not reported"
    exit 1
fi
if "$program" "$worker" "$place/noise" 10 0 strict,network=1 >"$place/out" 2>&1; then
    echo "a sandbox that is none was not reported"
    exit 1
fi
grep -q 'no sandbox: network=1' "$place/out"
if "$program" "$worker" "$place/noise" 10 0 path-ro=/no/such/path >"$place/out" 2>&1; then
    echo "a sandbox that cannot be had was not reported"
    exit 1
fi
[ -n "$sanitize" ] || grep -q 'cannot be had: files by path' "$place/out"
