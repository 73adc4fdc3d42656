#!/bin/sh
# SPDX-License-Identifier: MIT
# include_graph.sh ROOT: reads every #include of the project and fails if one breaks the layout:
#   - a room of src/ includes private headers of itself and of the rooms below it only;
#   - a private header is written with its room ("buffer/pool.h") and exists;
#   - a public header is written <safering/name.h>, and includes no private one;
#   - liburing, libseccomp and the kernel's headers for them stay in src/sys.
# Also compares the sources listed in src/CMakeLists.txt with those in the folder.
set -eu

cd "$1"

# Prints each broken rule as file:line: reason.
check_includes() {
    find include src -name '*.[ch]' | sort | xargs awk '
    BEGIN {
        below["core"] = " core "
        below["sys"] = " sys core "
        below["buffer"] = " buffer sys core "
        below["ring"] = " ring buffer sys core "
        below["batch"] = " batch ring buffer sys core "
        below["ipc"] = " ipc ring buffer sys core "
        below["worker"] = " worker ipc sys core "
    }

    function report(reason) {
        printf "%s:%d: %s\n", FILENAME, FNR, reason
    }

    /^[ \t]*#[ \t]*include/ {
        split(FILENAME, folders, "/")
        room = folders[1] == "include" ? "" : folders[2]
        named = $0
        sub(/^[ \t]*#[ \t]*include[ \t]*/, "", named)
        quote = substr(named, 1, 1)
        name = substr(named, 2)
        sub(/[">].*$/, "", name)

        if (room != "" && !(room in below)) {
            report("src/" room " is not a room of this list")
        } else if (quote == "\"") {
            target = name
            sub(/\/.*/, "", target)
            if (room == "") {
                report("a public header includes the private \"" name "\"")
            } else if (name ~ /^safering\//) {
                report("a public header is written <" name ">")
            } else if (name !~ /^[a-z0-9_]+\/[a-z0-9_]+\.h$/) {
                report("\"" name "\" is not written as room/name.h")
            } else if (index(below[room], " " target " ") == 0) {
                report(room " must not include " target ": \"" name "\"")
            } else if ((getline line < ("src/" name)) < 0) {
                report("src/" name " does not exist")
            } else {
                close("src/" name)
            }
        } else if (quote == "<") {
            if (name ~ /^safering\// && (getline line < ("include/" name)) < 0) {
                report("include/" name " does not exist")
            } else if (name ~ /^(core|sys|buffer|ring|batch|ipc|worker)\// && name !~ /^sys\/[a-z0-9_]+\.h$/) {
                report("a private header is written \"" name "\"")
            } else if (name ~ /^(liburing(\/.*)?\.h|seccomp\.h|linux\/(io_uring|landlock|seccomp)\.h)$/ && room != "sys") {
                report("only src/sys talks to the kernel: <" name ">")
            }
            close("include/" name)
        } else {
            report("an include that is not a plain file name: " named)
        }
    }'
}

# Prints the difference between the sources in src/ and those that are built; some are in two targets.
check_sources() {
    listed=$(sed -n 's/^ *\([a-z0-9_]*\/[a-z0-9_]*\.c\)$/\1/p' src/CMakeLists.txt | sort -u)
    present=$(cd src && find . -name '*.c' | sed 's/^\.\///' | sort)
    if [ "$listed" != "$present" ]; then
        echo "src/CMakeLists.txt does not list what src/ holds:"
        for source in $present; do
            echo "$listed" | grep -qx "$source" || echo "    not listed: src/$source"
        done
        for source in $listed; do
            echo "$present" | grep -qx "$source" || echo "    not there: src/$source"
        done
    fi
}

problems=$(check_includes; check_sources)
if [ -n "$problems" ]; then
    echo "$problems"
    exit 1
fi
echo "includes and source list are as they should be ($(find include src -name '*.[ch]' | wc -l) files)"
