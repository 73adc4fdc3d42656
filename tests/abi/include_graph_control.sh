#!/bin/sh
# SPDX-License-Identifier: MIT
# include_graph_control.sh ROOT: proves that include_graph.sh can fail. Each case plants one wrong line
# in a copy of the sources and requires that this very line, and nothing else, is reported.
set -eu

root=$1
checker=$(cd "$(dirname "$0")" && pwd)/include_graph.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
failures=0

# fresh_copy: the tree as it is.
fresh_copy() {
    rm -rf "${copy:?}"/*
    cp -r "$root/include" "$root/src" "$copy/"
}

# must_report FILE LINE REASON: FILE, which need not exist yet, gets LINE and the checker must answer
# with one problem: FILE, its last line, REASON.
must_report() {
    fresh_copy
    echo "$2" >>"$copy/$1"
    expected="$1:$(wc -l <"$copy/$1"): $3"
    if actual=$("$checker" "$copy"); then
        echo "not reported: $2 in $1"
        failures=$((failures + 1))
    elif [ "$actual" != "$expected" ]; then
        printf 'expected: %s\nreported: %s\n' "$expected" "$actual"
        failures=$((failures + 1))
    fi
}

fresh_copy
if ! "$checker" "$copy" >/dev/null; then
    echo "the tree itself is refused; see abi.include_graph"
    exit 1
fi

# Headers that the planted lines can name without being missing.
core=$(cd "$root/src" && find core -name '*.h' | head -n 1)
sys=$(cd "$root/src" && find sys -name '*.h' | head -n 1)
buffer=$(cd "$root/src" && find buffer -name '*.h' | head -n 1)
ring=$(cd "$root/src" && find ring -name '*.h' | head -n 1)
batch=$(cd "$root/src" && find batch -name '*.h' | head -n 1)
ipc=$(cd "$root/src" && find ipc -name '*.h' | head -n 1)
worker=$(cd "$root/src" && find worker -name '*.h' | head -n 1)

must_report src/core/planted.h "#include \"$sys\"" "core must not include sys: \"$sys\""
must_report src/sys/planted.h "#include \"$buffer\"" "sys must not include buffer: \"$buffer\""
must_report src/buffer/planted.h "#include \"$ring\"" "buffer must not include ring: \"$ring\""
must_report src/ring/planted.h "#include \"$batch\"" "ring must not include batch: \"$batch\""
must_report src/ring/planted.h "#include \"$ipc\"" "ring must not include ipc: \"$ipc\""
must_report src/ipc/planted.h "#include \"$batch\"" "ipc must not include batch: \"$batch\""
must_report src/batch/planted.h "#include \"$ipc\"" "batch must not include ipc: \"$ipc\""
must_report src/ipc/planted.h "#include \"$worker\"" "ipc must not include worker: \"$worker\""
must_report src/worker/planted.h "#include \"$ring\"" "worker must not include ring: \"$ring\""
must_report src/sys/planted.h "#include \"$ipc\"" "sys must not include ipc: \"$ipc\""
must_report "src/$buffer" "  #  include \"$ring\"" "buffer must not include ring: \"$ring\""
must_report src/ring/planted.h "#include \"${core#core/}\"" "\"${core#core/}\" is not written as room/name.h"
must_report src/ring/planted.h "#include \"../$core\"" "\"../$core\" is not written as room/name.h"
must_report src/ring/planted.h '#include "core/missing.h"' "src/core/missing.h does not exist"
must_report src/ring/planted.h '#include "safering/ring.h"' "a public header is written <safering/ring.h>"
must_report src/ring/planted.h '#include <safering/missing.h>' "include/safering/missing.h does not exist"
must_report src/ring/planted.h "#include <$buffer>" "a private header is written \"$buffer\""
must_report src/ring/planted.h '#include <liburing.h>' "only src/sys talks to the kernel: <liburing.h>"
must_report src/worker/planted.h "#include \"$ring\"" "worker must not include ring: \"$ring\""
must_report src/sys/planted.h "#include \"$worker\"" "sys must not include worker: \"$worker\""
must_report src/worker/planted.h '#include <seccomp.h>' "only src/sys talks to the kernel: <seccomp.h>"
must_report src/worker/planted.h '#include <linux/landlock.h>' \
    "only src/sys talks to the kernel: <linux/landlock.h>"
must_report include/safering/planted.h "#include \"$core\"" \
    "a public header includes the private \"$core\""

# A source that nobody builds.
fresh_copy
echo "int planted;" >"$copy/src/core/planted.c"
if actual=$("$checker" "$copy") || ! echo "$actual" | grep -q "not listed: src/core/planted.c"; then
    echo "a source that is missing in src/CMakeLists.txt was not reported: $actual"
    failures=$((failures + 1))
fi

if [ "$failures" -ne 0 ]; then
    exit 1
fi
echo "every planted mistake was reported"
