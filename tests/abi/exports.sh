#!/bin/sh
# SPDX-License-Identifier: MIT
# exports.sh ROOT NAME LIBRARY SANITIZE COVERAGE: the functions that the public headers of library NAME
# (safering or safering-worker) declare, the symbols that its map lists and those that it exports are the
# same set; it has its soname, and needs what it may need only.
set -eu

root=$1
name=$2
library=$3
sanitize=$4
coverage=$5
here=$(cd "$(dirname "$0")" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
failures=0

fail() {
    echo "$*"
    failures=$((failures + 1))
}

# compare LEFT RIGHT: names in one list and not in the other.
compare() {
    only_left=$(comm -23 "$place/$1" "$place/$2" | tr '\n' ' ')
    only_right=$(comm -13 "$place/$1" "$place/$2" | tr '\n' ' ')
    [ -z "$only_left" ] || fail "in $1 but not in $2: $only_left"
    [ -z "$only_right" ] || fail "in $2 but not in $1: $only_right"
}

export LC_ALL=C
case $name in
safering)
    headers=$(find "$root/include/safering" -name '*.h' ! -name worker.h)
    needs='liburing\.so\.2|'
    ;;
safering-worker)
    headers="$root/include/safering/worker.h $root/include/safering/error.h"
    needs='libseccomp\.so\.2|'
    ;;
esac
# shellcheck disable=SC2086 # a list of files
awk -f "$here/declared_functions.awk" $headers | sort >"$place/headers"
sed -n 's/^ *\([a-z0-9_]*\);$/\1/p' "$root/src/$name.map" | sort >"$place/map"
nm -D --defined-only "$library" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort \
    >"$place/library"

[ -s "$place/headers" ] || fail "no function found in the headers: nothing was tested"
compare headers map
compare headers library
[ -z "$(uniq -d "$place/map")" ] || fail "twice in the map: $(uniq -d "$place/map")"

# Every symbol carries a version node of ours.
unversioned=$(nm -D --defined-only "$library" | awk '$2 != "A" && $3 !~ /@@SAFERING_(WORKER_)?[0-9.]+$/ {print $3}')
[ -z "$unversioned" ] || fail "without a version: $unversioned"

soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ "$soname" = "lib$name.so.0" ] || fail "soname is '$soname', not lib$name.so.0"

allowed="^(${needs}libc\\.so\\.6|ld-linux.*)\$"
if [ -n "$sanitize" ] || [ "$coverage" = ON ]; then
    # The instrumentation brings libraries of its own.
    allowed="^(${needs}libc\\.so\\.6|ld-linux.*|lib(asan|ubsan|tsan|gcc_s|m)\\.so.*)\$"
fi
surplus=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -Ev "$allowed" || true)
[ -z "$surplus" ] || fail "needs more than it may: $surplus"

if [ "$failures" -ne 0 ]; then
    exit 1
fi
echo "$(wc -l <"$place/headers") functions: headers, map and library agree"
