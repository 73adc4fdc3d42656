#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh CMAKE BUILD CC CXX: installs the build into an empty prefix, moves the prefix, builds a small
# program against it in four ways, and runs each: pkg-config, CMake's find_package (shared and static),
# C++, and a fully static program by pkg-config --static.
set -eu

cmake=$1
build=$2
cc=$3
cxx=$4
here=$(cd "$(dirname "$0")" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

fail() {
    echo "$*"
    exit 1
}

# run_consumer NAME PROGRAM: the program's own exit code 77 (no io_uring here) is ours too.
run_consumer() {
    printf '%s: ' "$1"
    status=0
    "$2" || status=$?
    [ "$status" -eq 0 ] || exit "$status"
}

# needs_safering PROGRAM: whether it loads the shared library.
needs_safering() {
    readelf -d "$1" | grep -q 'NEEDED.*\[libsafering\.so\.0\]'
}

# An installed tree must not remember where it was made: install here, use it there.
DESTDIR='' "$cmake" --install "$build" --prefix "$place/here" >/dev/null
mv "$place/here" "$place/there"
prefix=$place/there

pc=$(find "$prefix" -name safering.pc)
[ -n "$pc" ] || fail "no safering.pc was installed"
libdir=$(dirname "$(dirname "$pc")")
for file in "$libdir/libsafering.so" "$libdir/libsafering.so.0" "$libdir/libsafering.a" \
    "$prefix/include/safering/safering.h" "$libdir/cmake/safering/safering-config.cmake"; do
    [ -e "$file" ] || fail "not installed: $file"
done
launcher=$prefix/libexec/safering/safering-launcher
[ -x "$launcher" ] || fail "not installed: $launcher"
if readelf -d "$launcher" | grep NEEDED | grep -v 'libc\.so' | grep -q .; then
    fail "the launcher needs more than the C library"
fi
if grep -rq "$(dirname "$build")" "$prefix/include" "$libdir/pkgconfig" "$libdir/cmake"; then
    fail "an installed file names the build or the source folder"
fi
for header in "$here"/../../include/safering/*.h; do
    cmp "$header" "$prefix/include/safering/$(basename "$header")"
done

export PKG_CONFIG_PATH="$libdir/pkgconfig"
strict="-Wall -Wextra -Wpedantic -Werror"

# shellcheck disable=SC2046,SC2086 # flags are several words
{
    $cc -D_GNU_SOURCE -std=c11 $strict -o "$place/shared" "$here/consumer/consumer.c" \
        $(pkg-config --cflags --libs safering) -Wl,-rpath,"$libdir"
    $cxx -std=c++11 $strict -o "$place/cpp" "$here/consumer/consumer.cpp" \
        $(pkg-config --cflags --libs safering) -Wl,-rpath,"$libdir"
    $cc -D_GNU_SOURCE -std=c11 $strict -static -o "$place/static" "$here/consumer/consumer.c" \
        $(pkg-config --static --cflags --libs safering)
}
"$cmake" -S "$here/consumer" -B "$place/build" -G Ninja -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_FLAGS=-D_GNU_SOURCE >/dev/null
"$cmake" --build "$place/build" >/dev/null

for program in "$place/shared" "$place/cpp" "$place/build/consumer_shared"; do
    needs_safering "$program" || fail "$(basename "$program") does not use libsafering.so.0"
done
for program in "$place/static" "$place/build/consumer_static"; do
    ! needs_safering "$program" || fail "$(basename "$program") uses libsafering.so.0"
done

run_consumer "pkg-config" "$place/shared"
run_consumer "C++" "$place/cpp"
run_consumer "pkg-config --static" "$place/static"
run_consumer "find_package, shared" "$place/build/consumer_shared"
run_consumer "find_package, static" "$place/build/consumer_static"
