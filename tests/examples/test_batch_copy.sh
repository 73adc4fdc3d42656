#!/bin/sh
# SPDX-License-Identifier: MIT
# A batch copies 1,000 files with few descriptors; what cannot be copied is told with the reason of each
# node that did not run, and leaves nothing behind. Usage: test_batch_copy.sh PROGRAM
set -eu
program=$1
seed=${SAFERING_TEST_SEED:-$(date +%s)}
echo "SAFERING_TEST_SEED=$seed"
# In memory where that can be had: a thousand fsync(2) on a busy disk take longer than the test may.
work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "$1"
    tr '\r' '\n' <err | tail -n 40
    exit 1
}

# run STATUS ARGUMENTS...: the program must end with that status.
run() {
    wanted=$1
    shift
    status=0
    timeout 100 "$program" "$@" >out 2>err || status=$?
    [ "$status" -eq "$wanted" ] || fail "status $status, not $wanted, of $# arguments: $1 ${2-}"
}

# says LINE...: these lines, and no others that are about a file.
says() {
    printf '%s\n' "$@" | sort >wanted
    tr '\r' '\n' <err | grep ': ' | sort >said || true
    diff wanted said || fail "other lines were to be said"
}

# ---- 1,000 files, most of them small ----------------------------------------------------------------
mkdir source target
head -c 1048577 /dev/urandom >bytes
awk -v seed="$seed" 'BEGIN {
    srand(seed); print 0; print 1048576
    for (i = 2; i < 1000; i++) { print int(exp(rand() * log(1048577))) - 1 } }' >sizes
number=0
while read -r size; do
    head -c "$size" bytes >"source/$number"
    number=$((number + 1))
done <sizes
[ "$number" -eq 1000 ] || fail "not 1,000 files"
(
    ulimit -n 200 # 64 files with two descriptors, and what any program has
    run 0 target source/*
)
diff -r source target || fail "the copies differ"
tr '\r' '\n' <err | grep -qx '12000 of 12000 operations' || fail "the progress does not come to its end"

# ---- what cannot be copied --------------------------------------------------------------------------
mv bytes large
rm -rf target
mkdir target target/c
echo a >a
echo c >c
echo d >d
: >target/d.new
run 1 target a missing large source c d
says "missing: open: No such file or directory" \
    "missing: stat: skipped because of open" "missing: read: skipped because of open" \
    "missing: create: skipped because of open" "missing: write: skipped because of open" \
    "missing: fsync: skipped because of open" "missing: rename: skipped because of open" \
    "source: read: Is a directory" \
    "source: create: skipped because of read" "source: write: skipped because of read" \
    "source: fsync: skipped because of read" "source: rename: skipped because of read" \
    "large: read: range, size or alignment out of bounds" \
    "large: create: skipped because of read" "large: write: skipped because of read" \
    "large: fsync: skipped because of read" "large: rename: skipped because of read" \
    "c: rename: Is a directory" \
    "d: create: File exists" \
    "d: write: skipped because of create" "d: fsync: skipped because of create" \
    "d: rename: skipped because of create"
cmp a target/a || fail "one failure kept another file from being copied"
[ "$(ls -A target | tr '\n' ' ')" = 'a c d.new ' ] || fail "something else is in the directory"

rm -rf target
mkdir target
(
    trap '' XFSZ # a file that grows too large is EFBIG then
    ulimit -f 100
    run 1 target source/1 a
)
says "source/1: write: File too large" "source/1: fsync: skipped because of write" \
    "source/1: rename: skipped because of write"
[ "$(ls -A target)" = a ] || fail "the copy that failed was not removed"

run 1 nowhere a
says "a: create: No such file or directory" "a: write: skipped because of create" \
    "a: fsync: skipped because of create" "a: rename: skipped because of create"
run 2 target
