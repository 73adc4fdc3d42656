#!/bin/sh
# SPDX-License-Identifier: MIT
# headers.sh ROOT CC CXX: each public header compiles alone and twice, as strict C11 and as C++11, without
# any warning, and so does each initialiser that it offers.
set -eu

root=$1
cc=$2
cxx=$3
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
failures=0
warnings="-Wall -Wextra -Wpedantic -Werror"

# Prints "TYPE MACRO" for each macro of a header that is a literal of a struct.
literals() {
    awk '
    { text = text "\n" $0 }
    END {
        gsub(/\\\n/, " ", text)
        count = split(text, lines, "\n")
        for (i = 1; i <= count; i++) {
            if (lines[i] !~ /^#define SR_[A-Z0-9_]+[ \t]/) {
                continue
            }
            split(lines[i], words, /[ \t]+/)
            if (match(lines[i], /SR_LITERAL\([a-z0-9_]+\)/) && words[2] != "SR_LITERAL") {
                print substr(lines[i], RSTART + 11, RLENGTH - 12), words[2]
            }
        }
    }' "$1"
}

# compile LANGUAGE COMPILER...: says which header fails.
compile() {
    language=$1
    shift
    # shellcheck disable=SC2086 # the warnings are several words
    if ! "$@" $warnings -I"$root/include" -fsyntax-only "$place/alone.$language"; then
        echo "$header does not compile alone ($*)"
        failures=$((failures + 1))
    fi
}

headers=0
initialisers=0
for path in "$root"/include/safering/*.h; do
    header=safering/$(basename "$path")
    headers=$((headers + 1))
    {
        printf '#include <%s>\n#include <%s>\n' "$header" "$header"
        echo "int sr_no_unit_is_empty;"
        literals "$path" | while read -r type macro; do
            echo "void use_$macro($type *out_value);"
            echo "void use_$macro($type *out_value) { $type value = $macro; *out_value = value; }"
        done
    } >"$place/alone.c"
    cp "$place/alone.c" "$place/alone.cpp"
    initialisers=$((initialisers + $(literals "$path" | wc -l)))
    compile c "$cc" -std=c11
    compile cpp "$cxx" -std=c++11
done

if [ "$headers" -eq 0 ] || [ "$initialisers" -eq 0 ]; then
    echo "no header or no initialiser found: nothing was tested"
    exit 1
fi
if [ "$failures" -ne 0 ]; then
    exit 1
fi
echo "$headers headers with $initialisers initialisers compile alone as C11 and C++11"
