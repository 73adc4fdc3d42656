#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Tests of examples/copy_tree. Usage: test_copy_tree.sh PATH_OF_COPY_TREE
#
# Each check prints one line: ok, FAILED or SKIPPED with the reason. Exit status: 0 if none failed.
# SAFERING_TEST_SCALE (default 1) scales the large files: 1/50 under valgrind.
# SAFERING_TEST_WRAPPER is put before the program in the checks of contents: "valgrind -q".

set -u

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: test_copy_tree.sh PATH_OF_COPY_TREE" >&2
    exit 2
fi
program=$(readlink -f "$1")
scale=${SAFERING_TEST_SCALE:-1}
read -r -a wrapper <<<"${SAFERING_TEST_WRAPPER:-}"
work=$(mktemp -d "${TMPDIR:-/tmp}/copy_tree_test.XXXXXX") || exit 2
mounted=
checks=0
failures=0
skips=0

clean_up() {
    if [ -n "$mounted" ]; then
        umount -R "$mounted"
    fi
    chmod -R u+rwx "$work" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

# ---- helpers ---------------------------------------------------------------------------------------

# check NAME COMMAND...: the command must succeed.
check() {
    local name=$1
    shift
    checks=$((checks + 1))
    if "$@" >"$work/check.out" 2>&1; then
        echo "ok       $name"
    else
        failures=$((failures + 1))
        echo "FAILED   $name"
        sed 's/^/         | /' "$work/check.out" | head -n 20
    fi
}

skip() {
    skips=$((skips + 1))
    echo "SKIPPED  $1: $2"
}

# copy ARGUMENTS...: run the program; its status, output and messages are kept for the checks.
copy() {
    "${wrapper[@]}" "$program" "$@" >"$work/out" 2>"$work/err"
    status=$?
}

# scaled MIB: so many MiB times the scale, at least 1.
scaled() {
    awk -v mib="$1" -v scale="$scale" 'BEGIN { n = int(mib * scale); print n < 1 ? 1 : n }'
}

status_is() {
    if [ "$status" -ne "$1" ]; then
        echo "exit status $status, not $1"
        cat "$work/err"
        return 1
    fi
}

no_messages() {
    if [ -s "$work/err" ]; then
        cat "$work/err"
        return 1
    fi
}

# message_lines COUNT TEXT: so many lines on standard error hold the text.
message_lines() {
    local found
    found=$(grep -c -F -- "$2" "$work/err")
    if [ "$found" -ne "$1" ]; then
        echo "$found lines with '$2', not $1, in:"
        cat "$work/err"
        return 1
    fi
}

summary_says() {
    if ! grep -q -E "^copied [0-9]+ files, [0-9]+ directories, [0-9]+ links, [0-9]+ bytes in [0-9.]+ s \([0-9.]+ MiB/s\)$" "$work/out" ||
        ! grep -q -F -- "$1" "$work/out"; then
        echo "summary is not '$1 ...' but:"
        cat "$work/out"
        return 1
    fi
}

same_stat() { # FORMAT ONE OTHER
    local one other
    one=$(stat -c "$1" -- "$2")
    other=$(stat -c "$1" -- "$3")
    if [ "$one" != "$other" ]; then
        echo "$2: $one, $3: $other"
        return 1
    fi
}

# The attributes of all entries below $1, one line each, sorted; NUL-safe by quoting.
list_attributes() {
    (cd "$1" && find . -printf '%P\0%y %m %U:%G %T@ %l\0' | sort -z | tr '\0\n' '\n?')
}

# Inodes are numbered by their first name, so that two trees with the same links compare equal.
list_hard_links() {
    (cd "$1" && find . -type f -links +1 -printf '%i %P\n' | sort -k 2 |
        awk '{ if (!($1 in seen)) seen[$1] = $2; print $2, "is", seen[$1] }')
}

trees_equal() {
    # diff(1) cannot compare FIFOs: find(1) does.
    (cd "$1" && find . -type f -print0 | while IFS= read -r -d '' name; do
        cmp -- "$name" "$2/$name" || echo different
    done) >"$work/different" 2>&1
    diff <(list_attributes "$1") <(list_attributes "$2") &&
        diff <(list_hard_links "$1") <(list_hard_links "$2") && [ ! -s "$work/different" ] ||
        { cat "$work/different"; return 1; }
}

no_temporaries() {
    local found
    found=$(find "$1" -name '.copy_tree-*')
    if [ -n "$found" ]; then
        echo "left behind: $found"
        return 1
    fi
}

random_file() { # PATH BYTES
    head -c "$2" /dev/urandom >"$1"
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# As an unprivileged user, with everything else the same.
as_nobody() {
    setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
}

can_be_nobody() {
    is_root && command -v setpriv >/dev/null && as_nobody test -x "$program" &&
        chmod 0755 "$work" && as_nobody test -x "$work"
}

# ---- usage -----------------------------------------------------------------------------------------

test_usage() {
    copy --help
    check "--help exits with 0" status_is 0
    check "--help tells the usage" grep -q "^Usage: copy_tree" "$work/out"
    check "--help tells that trees are merged" grep -q "merged into DST" "$work/out"
    copy --version
    check "--version exits with 0" status_is 0
    check "--version tells the version" grep -q -E '^copy_tree \(safering [0-9]+\.[0-9]+\.[0-9]+\)$' "$work/out"
    local arguments
    for arguments in "" "one" "one two three" "--bogus one two" "--jobs 0 one two" \
        "--jobs 1025 one two" "--jobs 5x one two" "--jobs"; do
        # shellcheck disable=SC2086 # split on purpose
        copy $arguments
        check "bad usage '$arguments' exits with 2" status_is 2
        check "bad usage '$arguments' tells the usage" message_lines 1 "Usage: copy_tree"
    done
    copy "$work/missing" "$work/copy"
    check "missing SRC exits with 2" status_is 2
    check "missing SRC is told in one line" message_lines 1 "'$work/missing': cannot find SRC: "
    touch "$work/present"
    copy "$work/present" "$work/missing/copy"
    check "missing parent of DST exits with 2" status_is 2
    check "missing parent of DST is told" message_lines 1 "cannot find the directory that DST is to be in"
}

# ---- contents and attributes -----------------------------------------------------------------------

make_sizes() { # DIRECTORY: around the sizes of a buffer and of what a file may have in flight
    local size
    for size in 0 1 2 4095 4096 4097 262143 262144 262145 524287 524288 524289 \
        2097151 2097152 2097153 5000001; do
        random_file "$1/size_$size" "$size"
    done
}

make_names() {
    local name
    for name in $'new\nline' $'tab\tname' 'grün 木 ñ' $'invalid\xff\xfe' "quote'd" 'back\slash' \
        ' leading' 'trailing ' '-dash' '*' '$(x)' "$(printf 'n%.0s' {1..255})"; do
        printf '%s' "$name" >"$1/$name"
    done
    mkdir "$1/"$'dir\n\xff'
    echo inside >"$1/"$'dir\n\xff/file'
}

make_kinds() {
    mkdir "$1/empty" "$1/deep" "$1/deep/er" "$1/sticky" "$1/readonly"
    chmod 1777 "$1/sticky"
    ln -s size_1 "$1/link"
    ln -s /nowhere/at/all "$1/dangling"
    ln -s . "$1/loop"
    ln -s "$(printf 't%.0s' {1..4000})" "$1/long_link"
    mkfifo -m 0620 "$1/fifo"
    random_file "$1/readonly/file" 1000
    chmod 0444 "$1/readonly/file"
    random_file "$1/setuid" 10
    chmod 6755 "$1/setuid"
    random_file "$1/private" 10
    chmod 0400 "$1/private"
    ln "$1/size_4096" "$1/hard"
    ln "$1/size_4096" "$1/deep/er/hard"
    ln "$1/fifo" "$1/deep/fifo_again"
    ln "$1/link" "$1/deep/link_again"
    if is_root; then
        chown -h 1234:4321 "$1/size_1" "$1/link" "$1/deep" "$1/setuid"
        chmod 6755 "$1/setuid" # chown(1) clears these bits
        chmod 0000 "$1/private"
        mknod "$1/null" c 1 3
    fi
}

set_times() {
    find "$1" -depth -print0 | while IFS= read -r -d '' name; do
        touch -h -a -d '2001-02-03 04:05:06.123456789' -- "$name"
        touch -h -m -d '1999-12-31 23:59:59.987654321' -- "$name"
    done
    chmod 0555 "$1/readonly"
}

make_tree() {
    mkdir "$1"
    make_sizes "$1"
    make_names "$1"
    make_kinds "$1"
    set_times "$1"
}

test_tree() {
    make_tree "$work/tree"
    # Reading changes access times: what they were is taken before anybody reads either file.
    local wanted found
    wanted=$(stat -c %x "$work/tree/size_4096")
    copy "$work/tree" "$work/tree_copy"
    found=$(stat -c %x "$work/tree_copy/size_4096")
    check "tree of all kinds exits with 0" status_is 0
    check "tree of all kinds has no messages" no_messages
    check "tree of all kinds is the same" trees_equal "$work/tree" "$work/tree_copy"
    check "access time is kept to the nanosecond" test "$wanted" = "$found"
    check "hard links share an inode" same_stat %i "$work/tree_copy/size_4096" "$work/tree_copy/deep/er/hard"
    check "hard links to a FIFO share an inode" same_stat %i "$work/tree_copy/fifo" "$work/tree_copy/deep/fifo_again"
    check "copy is not the source's inode" test ! "$work/tree/size_1" -ef "$work/tree_copy/size_1"
    check "no temporaries" no_temporaries "$work/tree_copy"
    local files directories links
    links=$(($(find "$work/tree" -type l | wc -l) + 3)) # link_again is a symbolic link anyway
    directories=$(find "$work/tree" -type d -printf x | wc -c)
    files=$(($(find "$work/tree" -mindepth 1 ! -type d -printf x | wc -c) - links))
    check "summary counts files, directories, links" summary_says "copied $files files, $directories directories, $links links, "
    if is_root; then
        check "device node is kept" same_stat '%F %t %T' "$work/tree/null" "$work/tree_copy/null"
    else
        skip "device node is kept" "only root makes device nodes"
    fi
}

test_tree_again() {
    random_file "$work/tree_copy/of its own" 100
    cp "$work/tree_copy/of its own" "$work/of its own"
    echo changed >"$work/tree/size_0"
    copy --jobs 1 --fsync "$work/tree" "$work/tree_copy"
    check "merge with --jobs 1 --fsync exits with 0" status_is 0
    check "merge replaces" cmp "$work/tree/size_0" "$work/tree_copy/size_0"
    check "merge keeps other files" cmp "$work/of its own" "$work/tree_copy/of its own"
    rm "$work/tree_copy/of its own"
    touch -r "$work/tree" "$work/tree_copy"
    check "merged tree is the same" trees_equal "$work/tree" "$work/tree_copy"
    check "merge leaves no temporaries" no_temporaries "$work/tree_copy"
}

test_read_only_as_nobody() {
    if ! can_be_nobody; then
        skip "read-only directories without privilege" "needs root, to become nobody with setpriv"
        return
    fi
    mkdir "$work/nobody"
    chown 65534:65534 "$work/nobody"
    as_nobody mkdir -p "$work/nobody/tree/closed/inner"
    as_nobody sh -c "echo text >'$work/nobody/tree/closed/inner/file'; echo text >'$work/nobody/tree/closed/file'"
    chmod 0555 "$work/nobody/tree/closed/inner" "$work/nobody/tree/closed" "$work/nobody/tree"
    as_nobody "$program" "$work/nobody/tree" "$work/nobody/copy" >"$work/out" 2>"$work/err"
    status=$?
    check "read-only directories without privilege exit with 0" status_is 0
    check "read-only directories are the same" trees_equal "$work/nobody/tree" "$work/nobody/copy"
    as_nobody "$program" "$work/nobody/tree" "$work/nobody/copy" >"$work/out" 2>"$work/err"
    status=$?
    check "merge into read-only directories exits with 0" status_is 0
    check "merge into read-only directories is the same" trees_equal "$work/nobody/tree" "$work/nobody/copy"

    printf 'secret' >"$work/nobody/secret"
    printf 'not mine' >"$work/nobody/setuid"
    chmod 4755 "$work/nobody/setuid"
    as_nobody "$program" "$work/nobody/setuid" "$work/nobody/setuid_copy" >"$work/out" 2>"$work/err"
    status=$?
    check "set-uid file of another user exits with 0" status_is 0
    check "set-uid is not passed to another owner" test "$(stat -c '%a %u' "$work/nobody/setuid_copy")" = "755 65534"
}

test_unreadable() {
    if ! can_be_nobody; then
        skip "unreadable file" "needs root, to become nobody with setpriv"
        return
    fi
    mkdir "$work/unreadable" "$work/unreadable/locked" "$work/for_nobody"
    echo one >"$work/unreadable/one"
    echo two >"$work/unreadable/two"
    echo hidden >"$work/unreadable/"$'hid\nden'
    chmod 0600 "$work/unreadable/"$'hid\nden'
    chmod 0700 "$work/unreadable/locked"
    chown 65534:65534 "$work/for_nobody"
    as_nobody "$program" "$work/unreadable" "$work/for_nobody/copy" >"$work/out" 2>"$work/err"
    status=$?
    check "unreadable file and directory exit with 1" status_is 1
    check "unreadable file is told in one line" message_lines 1 "/unreadable/hid\\nden': cannot open: "
    check "unreadable directory is told in one line" message_lines 1 "/unreadable/locked': cannot open the directory: "
    check "failures are counted" message_lines 1 "copy_tree: 2 could not be copied"
    check "the other files are copied" cmp "$work/unreadable/two" "$work/for_nobody/copy/two"
    check "nothing has the unreadable file's name" test ! -e "$work/for_nobody/copy/"$'hid\nden'
    check "unreadable file leaves no temporaries" no_temporaries "$work/for_nobody"
}

dump() {
    (cd "$1" && find . -print0 | sort -z | xargs -0 getfattr -h -d -m -)
}

# setfacl(1) is not everywhere; this is what it writes: owner rw, user 1234 rw, group r, mask, other.
access_control_list=0x0200000001000600ffffffff02000600d204000004000400ffffffff10000600ffffffff20000400ffffffff

test_access_control_lists() {
    if ! setfattr -n system.posix_acl_access -v $access_control_list "$work/xattr/file" 2>"$work/err"; then
        skip "access control lists" "$(cat "$work/err")"
        return
    fi
    random_file "$work/xattr/without" 10
    setfattr -n system.posix_acl_default -v $access_control_list "$work/xattr"
    copy "$work/xattr" "$work/acl_copy"
    check "access control lists exit with 0" status_is 0
    check "access control lists are the same" diff <(dump "$work/xattr") <(dump "$work/acl_copy")
    # Now the destination hands its default list down to whatever is made in it.
    copy "$work/xattr" "$work/acl_copy"
    check "merge into a directory with a default list exits with 0" status_is 0
    check "no access control list is inherited" diff <(dump "$work/xattr") <(dump "$work/acl_copy")
}

test_extended_attributes() {
    mkdir "$work/xattr"
    random_file "$work/xattr/file" 100
    if ! command -v setfattr >/dev/null; then
        skip "extended attributes" "setfattr is missing (package attr)"
        return
    fi
    if ! setfattr -n user.colour -v blue "$work/xattr/file" 2>"$work/err"; then
        skip "extended attributes" "$(cat "$work/err")"
        return
    fi
    head -c 2000 /dev/urandom | base64 -w 0 | sed 's/^/0s/' >"$work/value"
    setfattr -n user.large -v "$(cat "$work/value")" "$work/xattr/file"
    setfattr -n user.empty "$work/xattr/file"
    setfattr -n user.folder -v yes "$work/xattr"
    chmod 0444 "$work/xattr/file"
    if is_root; then
        setfattr -n trusted.note -v kept "$work/xattr/file"
        ln -s file "$work/xattr/link"
        setfattr -h -n trusted.note -v linked "$work/xattr/link"
    fi
    copy "$work/xattr" "$work/xattr_copy"
    check "extended attributes exit with 0" status_is 0
    check "extended attributes are the same" diff <(dump "$work/xattr") <(dump "$work/xattr_copy")
    check "extended attributes were there to compare" grep -q user.large <(dump "$work/xattr_copy")
    test_access_control_lists
    if is_root && mkdir -p "$work/ramfs" && mount -t ramfs ramfs "$work/ramfs" 2>/dev/null; then
        mounted=$work/ramfs
        copy "$work/xattr" "$work/ramfs/copy"
        check "a side without extended attributes is fine" status_is 0
        check "a side without extended attributes has the file" cmp "$work/xattr/file" "$work/ramfs/copy/file"
        umount "$mounted" && mounted=
    else
        skip "a side without extended attributes" "needs root and a mount of ramfs"
    fi
}

test_single_file() {
    random_file "$work/single" 300000
    mkdir -m 0711 "$work/place"
    copy "$work/single" "$work/place/new name"
    check "single file exits with 0" status_is 0
    check "single file is the same" cmp "$work/single" "$work/place/new name"
    check "single file is counted" summary_says "copied 1 files, 0 directories, 0 links, 300000 bytes in "
    (cd "$work/place" && "$program" "new name" "plain" >"$work/out" 2>"$work/err")
    check "relative names work" cmp "$work/single" "$work/place/plain"
    ln -s "new name" "$work/place/by link"
    copy "$work/place/by link" "$work/place/followed"
    check "SRC that is a link is followed" test -f "$work/place/followed" -a ! -L "$work/place/followed"
    check "mode of the directory that DST is in is left alone" test "$(stat -c %a "$work/place")" = 711
}

test_socket() {
    mkdir "$work/socket"
    echo beside >"$work/socket/file"
    if ! command -v python3 >/dev/null ||
        ! (cd "$work/socket" && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'); then
        skip "socket" "needs python3 to make one"
        return
    fi
    copy "$work/socket" "$work/socket_copy"
    check "socket exits with 1" status_is 1
    check "socket is told in one line" message_lines 1 "/socket/sock': is a socket"
    check "file beside a socket is copied" cmp "$work/socket/file" "$work/socket_copy/file"
}

test_size_that_lies() {
    if [ ! -s /proc/version ] && [ -r /proc/version ] && [ -n "$(cat /proc/version)" ]; then
        copy /proc/version "$work/version"
        check "file with contents but size 0 exits with 1" status_is 1
        check "file with contents but size 0 is told" message_lines 1 "has contents although its size is 0"
        check "file with contents but size 0 is not half there" test ! -e "$work/version"
    else
        skip "file with contents but size 0" "/proc/version is not such a file"
    fi
}

# ---- large, sparse, deep, many ---------------------------------------------------------------------

test_sparse() {
    local mib
    mib=$(scaled 3072)
    mkdir "$work/sparse"
    truncate -s "${mib}M" "$work/sparse/file"
    printf 'start' | dd of="$work/sparse/file" conv=notrunc status=none
    printf 'middle' | dd of="$work/sparse/file" bs=1 seek=$((mib * 524288 + 123)) conv=notrunc status=none
    printf 'end' | dd of="$work/sparse/file" bs=1 seek=$((mib * 1048576 - 3)) conv=notrunc status=none
    truncate -s 1M "$work/sparse/hole"
    copy "$work/sparse" "$work/sparse_copy"
    check "sparse file of $mib MiB exits with 0" status_is 0
    check "sparse file of $mib MiB is the same" cmp "$work/sparse/file" "$work/sparse_copy/file"
    check "file that is one hole is the same" cmp "$work/sparse/hole" "$work/sparse_copy/hole"
    check "holes stay holes" test "$(du -k "$work/sparse_copy/file" | cut -f 1)" -le $(($(du -k "$work/sparse/file" | cut -f 1) + 64))
    rm -rf "$work/sparse" "$work/sparse_copy"
}

test_many() {
    local i
    mkdir "$work/many"
    for i in $(seq 1 "$(scaled 40)"); do
        mkdir "$work/many/$i"
        for j in {1..50}; do
            echo "$i $j" >"$work/many/$i/$j"
        done
    done
    (ulimit -n 64 && "$program" --jobs 1024 "$work/many" "$work/many_copy") >"$work/out" 2>"$work/err"
    status=$?
    check "many files with 64 descriptors exit with 0" status_is 0
    check "many files are the same" diff -r "$work/many" "$work/many_copy"
    copy --jobs 1000 "$work/many" "$work/many_copy2"
    check "many files with --jobs 1000 exit with 0" status_is 0
    check "many files with --jobs 1000 are the same" diff -r "$work/many" "$work/many_copy2"
    rm -rf "$work/many" "$work/many_copy" "$work/many_copy2"
}

# Deeper than PATH_MAX: names of 200 bytes, a file and a hard link to the topmost one on each level.
test_deep() {
    local name levels i
    name=$(printf 'd%.0s' {1..200})
    levels=$(scaled 200)
    mkdir "$work/deep"
    (
        cd "$work/deep" || exit 1
        echo top >top
        for i in $(seq "$levels"); do
            mkdir "$name" && ln top "$name/top" && cd -P "$name" 2>/dev/null && echo "$i" >file || exit 1
        done
    ) || skip "part of the deep tree" "the shell could not make it"
    (ulimit -n 64 && "$program" "$work/deep" "$work/deep_copy") >"$work/out" 2>"$work/err"
    status=$?
    check "tree of $levels levels of 200 bytes with 64 descriptors exits with 0" status_is 0
    check "tree of $levels levels has all directories" summary_says " $((levels + 1)) directories, $levels links"
    list_deep() { (cd "$1" && find . -printf '%d %m %s %n %T@ %f\n'); }
    check "tree of $levels levels is the same" diff <(list_deep "$work/deep" | sort) <(list_deep "$work/deep_copy" | sort)
    rm -rf "$work/deep" "$work/deep_copy"
}

# ---- refusals --------------------------------------------------------------------------------------

refused() { # TEXT SRC DST
    copy "$2" "$3"
    check "$1 ($2 to $3) exits with 2" status_is 2
    check "$1 is told in one line" message_lines 1 "$1"
}

test_refusals() {
    local here=$work/nest
    mkdir -p "$here/a/b" "$here/other"
    echo text >"$here/a/file"
    ln "$here/a/file" "$here/other/same"
    ln -s "$here/a/b" "$here/shortcut"
    ln -s "$here/a" "$here/alias"
    refused "SRC and DST are the same" "$here/a" "$here/a"
    refused "SRC and DST are the same" "$here/a" "$here/alias"
    refused "SRC and DST are the same" "$here/a/file" "$here/other/same"
    refused "DST is inside SRC" "$here/a" "$here/a/new"
    refused "DST is inside SRC" "$here/a" "$here/a/b"
    refused "DST is inside SRC" "$here/a" "$here/shortcut/new"
    refused "DST is inside SRC" "$here/alias/" "$here/a/b/new"
    refused "SRC is inside DST" "$here/a/b" "$here/a"
    refused "SRC is inside DST" "$here/shortcut" "$here/alias"
    refused "SRC is inside DST" "$here/a" /
    refused "DST is a directory, but SRC is not" "$here/a/file" "$here/other"
    refused "SRC is a directory, but DST is not" "$here/a" "$here/other/same"
    check "nothing was made by what was refused" test -z "$(find "$here" -name new)"
    mkdir "$here/ab"
    copy "$here/a" "$here/ab/copy"
    check "a name that only begins like SRC is no nesting" status_is 0
}

# In a file system of its own with few inodes: without the checks that are tested here the copy would
# go on for ever.
test_bind_mounts() {
    local here=$work/cell
    mkdir "$here"
    if ! is_root || ! mount -t tmpfs -o nr_inodes=500 tmpfs "$here" 2>/dev/null; then
        skip "nesting by a bind mount" "needs root and mounts"
        return
    fi
    mounted=$here
    mkdir -p "$here/a/b" "$here/bound"
    echo text >"$here/a/file"
    mount --bind "$here/a" "$here/bound"
    refused "DST is inside SRC" "$here/a" "$here/bound/new"
    umount "$here/bound" && mount --bind "$here/a/b" "$here/bound"
    # No path and no ".." shows this one: it is seen when the walk meets DST itself.
    copy "$here/a" "$here/bound/new"
    check "DST inside a mount of a part of SRC exits with 1" status_is 1
    check "DST inside a mount of a part of SRC is told" message_lines 1 "/a/b/new': is the destination itself: left out"
    check "DST inside a mount of a part of SRC has the rest" cmp "$here/a/file" "$here/a/b/new/file"
    umount -R "$here" && mounted=
}

# ---- atomic, interrupted, full ---------------------------------------------------------------------

test_replace() {
    random_file "$work/old" 100000
    random_file "$work/new" 3000000
    mkdir "$work/replace"
    cp "$work/old" "$work/replace/name"
    exec 5<"$work/replace/name"
    copy "$work/new" "$work/replace/name"
    check "replacing exits with 0" status_is 0
    check "replaced file is the new one" cmp "$work/new" "$work/replace/name"
    check "who has the old file open still reads the old one" cmp "$work/old" /dev/fd/5
    exec 5<&-
    mkdir "$work/replace_tree" "$work/replace_target" "$work/elsewhere"
    echo new >"$work/replace_tree/file"
    mkdir "$work/replace_tree/dir"
    echo new >"$work/replace_tree/dir/file"
    echo untouched >"$work/elsewhere/file"
    ln -s "$work/elsewhere/file" "$work/replace_target/file"
    ln -s "$work/elsewhere" "$work/replace_target/dir"
    copy "$work/replace_tree" "$work/replace_target"
    check "link in DST where a directory is to be exits with 1" status_is 1
    check "link in DST is replaced, not followed" test "$(cat "$work/elsewhere/file")" = untouched -a ! -L "$work/replace_target/file"
    mkdir "$work/in_the_way" "$work/in_the_way/file"
    copy "$work/replace_tree" "$work/in_the_way"
    check "directory in the place of a file exits with 1" status_is 1
    check "directory in the place of a file is told" message_lines 1 "/replace_tree/file': cannot give the copy its name: "
    check "directory in the place of a file leaves no temporaries" no_temporaries "$work/in_the_way"
}

# Starts a copy and waits until its temporary file has some bytes.
start_copy() { # SRC DST
    mkdir "$work/interrupted"
    # A shell without job control starts what runs in its background with SIGINT ignored.
    env --default-signal=INT "$program" "$@" >"$work/out" 2>"$work/err" &
    running=$!
    local i
    for i in $(seq 2000); do
        if [ -n "$(find "$work/interrupted" -name '.copy_tree-*' -size +0 -print -quit)" ]; then
            return 0
        fi
        kill -0 "$running" 2>/dev/null || return 1
        sleep 0.002
    done
    return 1
}

test_interrupt() {
    local mib signal number
    mib=$(scaled 1024)
    mkdir "$work/large"
    head -c "${mib}M" /dev/zero >"$work/large/file"
    for signal in INT TERM; do
        number=$(kill -l $signal)
        if start_copy "$work/large" "$work/interrupted/copy"; then
            kill -s $signal "$running"
            wait "$running"
            status=$?
            check "SIG$signal in mid-copy exits with $((128 + number))" status_is $((128 + number))
            check "SIG$signal in mid-copy does not wait for the rest of the file" test "$(sed 's/.* links, \([0-9]*\) bytes .*/\1/' "$work/out")" -lt $((mib * 1048576))
            check "SIG$signal in mid-copy leaves no temporary" no_temporaries "$work/interrupted"
            check "SIG$signal in mid-copy leaves no final name" test ! -e "$work/interrupted/copy/file"
            check "SIG$signal in mid-copy says how many files were completed" message_lines 1 "copy_tree: interrupted by SIG$signal: 0 files were completed, 1 in flight were removed"
        else
            wait "$running"
            skip "SIG$signal in mid-copy" "the copy of $mib MiB was over too soon"
        fi
        rm -rf "$work/interrupted"
    done
}

test_changed() {
    if ! start_copy "$work/large" "$work/interrupted/copy"; then
        wait "$running"
        skip "file that grows while it is copied" "the copy was over too soon"
    else
        kill -s STOP "$running"
        echo more >>"$work/large/file"
        kill -s CONT "$running"
        wait "$running"
        status=$?
        check "file that grows while it is copied exits with 1" status_is 1
        check "file that grows while it is copied is told" message_lines 1 "/large/file': changed while it was copied: left out"
        check "file that grows is not there half" test ! -e "$work/interrupted/copy/file"
    fi
    rm -rf "$work/interrupted"
    if ! start_copy "$work/large" "$work/interrupted/copy"; then
        wait "$running"
        skip "file that shrinks while it is copied" "the copy was over too soon"
    else
        kill -s STOP "$running"
        truncate -s 100 "$work/large/file"
        kill -s CONT "$running"
        wait "$running"
        status=$?
        check "file that shrinks while it is copied exits with 1" status_is 1
        check "file that shrinks while it is copied is told" message_lines 1 "/large/file': became shorter while it was copied"
        check "file that shrinks is not there half" test ! -e "$work/interrupted/copy/file"
        check "file that shrinks leaves no temporary" no_temporaries "$work/interrupted"
    fi
    rm -rf "$work/interrupted"
}

test_progress() {
    if ! command -v script >/dev/null; then
        skip "progress on a terminal" "script is missing (package bsdutils)"
    else
        # The first bar is due after 0.2 s. A fast machine has copied 1 GiB by then.
        for size in 1024 4096; do
            head -c "$(scaled "$size")M" /dev/zero >"$work/large/file"
            rm -rf "$work/shown"
            script -qec "$program $work/large $work/shown" "$work/typescript" >/dev/null </dev/null
            status=$?
            grep -q -a ' in 0\.[0-4][0-9]* s ' "$work/typescript" || break
        done
        check "copy on a terminal exits with 0" status_is 0
        if [ "$scale" = 1 ]; then
            bar='\[#*\.*\] +[0-9]+%  [0-9.]+ [KMGi]*B of [14]\.0 GiB  [0-9.]+ [KMGi]*B/s  [0-9:]+ left'
            check "bar with share, rate and remaining time" grep -q -a -E "$bar" "$work/typescript"
            grep -q -a -E "$bar" "$work/typescript" || tr '\r' '\n' <"$work/typescript" | tail -n 20
        fi
        script -qec "$program --quiet $work/large $work/shown" "$work/typescript" >/dev/null </dev/null
        check "--quiet shows no bar" test "$(grep -a -c ' left' "$work/typescript")" -eq 0
        check "--quiet still prints the summary" grep -q -a "^copied 1 files" "$work/typescript"
    fi
    rm -rf "$work/shown"
    if start_copy "$work/large" "$work/interrupted/copy"; then
        kill -s STOP "$running"
        sleep 5.5 # a plain line is printed every five seconds
        kill -s CONT "$running"
        wait "$running"
        status=$?
        check "plain progress exits with 0" status_is 0
        check "plain progress is a line now and then" message_lines 1 "files, "
        check "plain progress has no control characters" bash -c "! grep -q \$'[\r\e]' '$work/err'"
    else
        wait "$running"
        skip "plain progress" "the copy was over too soon"
    fi
    rm -rf "$work/interrupted"
}

test_full() {
    mkdir "$work/small"
    if ! is_root || ! mount -t tmpfs -o size=4M tmpfs "$work/small" 2>/dev/null; then
        skip "full file system" "needs root and a mount of tmpfs"
        return
    fi
    mounted=$work/small
    mkdir "$work/too_much"
    random_file "$work/too_much/fits" 100000
    random_file "$work/too_much/large" 8000000
    copy "$work/too_much" "$work/small/copy"
    check "full file system exits with 1" status_is 1
    check "full file system is told in one line" message_lines 1 "/too_much/large': cannot write the copy: "
    check "full file system leaves no temporaries" no_temporaries "$work/small"
    check "full file system leaves nothing half-written" test ! -e "$work/small/copy/large"
    rm -rf "$work/small/copy"
    copy "$work/too_much/fits" "$work/small/fits"
    check "what fits is the same" cmp "$work/too_much/fits" "$work/small/fits"
    umount "$mounted" && mounted=
}

test_no_ring() {
    # One descriptor besides the three: enough to load libraries, too few for a ring and its pipe. What a
    # test runner handed down would count.
    (exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; ulimit -n 4 && exec "$program" "$work/single" "$work/no_ring") >"$work/out" 2>"$work/err"
    status=$?
    check "no ring exits with 2" status_is 2
    check "no ring is told with the library's error" message_lines 1 "copy_tree: cannot create an io_uring: "
    check "no ring, no copy" test ! -e "$work/no_ring"
}

# ---- what the program asks of the library ------------------------------------------------------------

# A library that stands before sr_ring_submit(): it logs, refuses the Nth call, or pleads no room.
make_preload() {
    local include
    include=$(readlink -f "$(dirname "$0")/../../include")
    cat >"$work/preload.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <safering/safering.h>
#include <stdio.h>
#include <stdlib.h>

int sr_ring_submit(sr_ring *ring, const sr_request *request, sr_op *out_op)
{
    static int (*real)(sr_ring *, const sr_request *, sr_op *);
    static long calls;
    static FILE *log;
    const char *refuse = getenv("PRELOAD_REFUSE");
    calls++;
    if (real == NULL) {
        real = (int (*)(sr_ring *, const sr_request *, sr_op *))dlsym(RTLD_NEXT, "sr_ring_submit");
        log = fopen(getenv("PRELOAD_LOG"), "w");
    }
    fprintf(log, "%u %s\n", request->op, request->op == SR_OP_RENAMEAT ? request->new_path : "");
    fflush(log);
    if (refuse != NULL && atol(refuse) == calls) {
        return -ENOMEM;
    }
    if (getenv("PRELOAD_FULL") != NULL && calls % 3 != 0) {
        return SR_E_FULL;
    }
    return real(ring, request, out_op);
}
END
    export PRELOAD_LOG="$work/preload.log" ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0
    cc -shared -fPIC -w -I"$include" -o "$work/preload.so" "$work/preload.c" 2>"$work/err" &&
        LD_PRELOAD="$work/preload.so" "$program" "$work/single" "$work/preloaded" >/dev/null 2>>"$work/err" &&
        [ -s "$PRELOAD_LOG" ]
}

# Numbers of SR_OP_*: 2 write, 5 fsync, 14 rename.
test_fsync() {
    LD_PRELOAD="$work/preload.so" "$program" --jobs 1 --fsync "$work/single" "$work/durable" >/dev/null
    check "--fsync: write, sync, rename, sync the directory" test "$(grep -E -o '^(2|5|14) ' "$PRELOAD_LOG" | uniq | tr -d '\n')" = "2 5 14 5 "
    LD_PRELOAD="$work/preload.so" "$program" --fsync "$work/requests" "$work/durable_tree" >/dev/null
    check "--fsync: each file and each directory" test "$(grep -c '^5 ' "$PRELOAD_LOG")" -eq 6
    LD_PRELOAD="$work/preload.so" "$program" "$work/single" "$work/not_durable" >/dev/null
    check "without --fsync nothing is synced" test "$(grep -c '^5 ' "$PRELOAD_LOG")" -eq 0
}

test_full_ring() {
    PRELOAD_FULL=1 LD_PRELOAD="$work/preload.so" "$program" "$work/requests" "$work/full_ring" >"$work/out" 2>"$work/err"
    status=$?
    check "ring without room two times of three exits with 0" status_is 0
    check "ring without room two times of three: all is the same" trees_equal "$work/requests" "$work/full_ring"
}

# Whatever is there after a failure must be complete.
only_whole_files() {
    local name whole=0
    while IFS= read -r name; do
        case $name in
        *.copy_tree-*) grep -q "cannot remove its temporary copy" "$work/err" || { echo "left: $name"; whole=1; } ;;
        *) cmp "$work/requests/${name#"$1/"}" "$name" || whole=1 ;;
        esac
    done < <(find "$1" -type f 2>/dev/null)
    return "$whole"
}

test_refused_requests() {
    local total i bad=0
    LD_PRELOAD="$work/preload.so" "$program" "$work/requests" "$work/refused" >/dev/null
    total=$(wc -l <"$PRELOAD_LOG")
    for i in $(seq "$total"); do
        rm -rf "$work/refused"
        PRELOAD_REFUSE=$i LD_PRELOAD="$work/preload.so" timeout 20 "$program" "$work/requests" "$work/refused" >"$work/out" 2>"$work/err"
        status=$?
        if [ "$status" -gt 2 ] || { [ "$status" -gt 0 ] && [ ! -s "$work/err" ]; } || ! only_whole_files "$work/refused" ||
            { [ "$status" -eq 0 ] && ! diff -r "$work/requests" "$work/refused"; }; then
            echo "request $i of $total refused: exit status $status"
            cat "$work/err"
            bad=1
        fi
    done
    [ "$total" -gt 30 ] && return "$bad"
}

test_requests() {
    if ! make_preload; then
        skip "what the program asks of the library" "cannot stand before it: $(head -n 1 "$work/err")"
        return
    fi
    mkdir -p "$work/requests/below"
    echo 1 >"$work/requests/one"
    ln "$work/requests/one" "$work/requests/below/linked"
    ln -s one "$work/requests/link"
    random_file "$work/requests/below/large" 3000000
    truncate -s 1M "$work/requests/sparse"
    test_fsync
    test_full_ring
    check "each request in turn refused: nothing half-done, and said so" test_refused_requests
}

test_usage
test_tree
test_tree_again
test_read_only_as_nobody
test_unreadable
test_extended_attributes
test_single_file
test_socket
test_size_that_lies
test_sparse
test_many
test_deep
test_refusals
test_bind_mounts
test_replace
test_interrupt
test_changed
test_progress
test_full
test_no_ring
test_requests

echo "$checks checks, $failures failed, $skips skipped"
[ "$failures" -eq 0 ]
