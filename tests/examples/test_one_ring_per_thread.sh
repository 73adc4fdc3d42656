#!/bin/sh
# SPDX-License-Identifier: MIT
# The example adds up what awk adds up, with one thread and with several; a missing file is told.
# Usage: test_one_ring_per_thread.sh PROGRAM
set -eu
program=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for i in 1 2 3 4 5 6 7; do
    head -c $((i * 30011)) /dev/urandom >"$folder/$i" # less and more than one buffer
done
sum=$(cat "$folder"/[0-9] | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) s += $i } END { printf "%d", s }')

for threads in 1 3; do
    "$program" $threads "$folder"/[0-9] >"$folder/out"
    cat "$folder/out"
    grep -qx "7 files, sum of all bytes $sum" "$folder/out"
    test "$(grep -c '^thread' "$folder/out")" -eq $threads
done
if "$program" 2 "$folder/1" /nonexistent >"$folder/out" 2>"$folder/err"; then
    echo "a missing file was not reported"
    exit 1
fi
grep -q '/nonexistent' "$folder/err"
if "$program" 0 "$folder/1" 2>/dev/null; then
    echo "no threads were accepted"
    exit 1
fi
