#!/bin/sh
# SPDX-License-Identifier: MIT
# worker_objects.sh LIBRARY: what runs in worker processes needs neither liburing nor libnuma, and nothing of
# the library's own that is not in it.
set -eu

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export LC_ALL=C

nm --defined-only "$1" | awk 'NF == 3 {print $3}' | sort -u >"$place/defined"
nm --undefined-only "$1" | awk 'NF == 2 {print $2}' | sort -u >"$place/undefined"
[ -s "$place/defined" ] || { echo "nothing is defined in $1: nothing was tested"; exit 1; }
comm -13 "$place/defined" "$place/undefined" >"$place/needed"

surplus=$(grep -E '^(io_uring_|numa_|sri_|sr_)' "$place/needed" || true)
if [ -n "$surplus" ]; then
    echo "$1 needs what it must not, or does not hold:"
    echo "$surplus"
    exit 1
fi
# The control: what is looked at is what it needs.
grep -qx seccomp_load "$place/needed" || { echo "libseccomp is not used: is this the right file?"; exit 1; }
echo "$(wc -l <"$place/needed") symbols are needed from outside, none of liburing, libnuma or our own"
