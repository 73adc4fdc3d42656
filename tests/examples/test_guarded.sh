#!/bin/sh
# SPDX-License-Identifier: MIT
# The example's child dies of its bug and says who had the buffer.
# Usage: test_guarded.sh PROGRAM
set -eu
program=$1
words=$(mktemp)
trap 'rm -f "$words"' EXIT

"$program" >"$words" 2>&1
cat "$words"
grep -Eq '^safering: the program (wrote to|touched) memory that is lent to the kernel: buffer 0x[0-9a-f]+, byte [0-9]+ of 4096' "$words"
grep -Eq '^safering: lent to operation 0x[0-9a-f]+ \(opcode 1\), which writes bytes 0 to 4095, descriptor [0-9]+' "$words"
grep -Eq '^the child was stopped by: ' "$words"
