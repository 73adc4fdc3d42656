#!/bin/sh
# SPDX-License-Identifier: MIT
# All files of a transaction are replaced, or none is and no temporary file stays; when a rename fails
# in the middle it says which are. The graph is valid Graphviz. Usage: test_batch_transaction.sh PROGRAM
set -eu
program=$1
# In memory where that can be had, because of fsync(2).
work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
mounted=
trap 'if [ -n "$mounted" ]; then umount "$mounted"; fi; chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "$1"
    cat out err
    exit 1
}

# run STATUS ARGUMENTS...: the program must end with that status.
run() {
    wanted=$1
    shift
    status=0
    timeout 60 "$program" "$@" >out 2>err || status=$?
    [ "$status" -eq "$wanted" ] || fail "status $status, not $wanted: $*"
}

says() {
    grep -q "$1" out err || fail "nothing says: $1"
}

# What the directories of a test hold before each transaction.
renew() {
    rm -rf target
    mkdir target
    echo old a >target/a
    echo old b >target/b
    rm -rf before
    cp -a target before
}

# nothing_changed ARGUMENTS...: the transaction fails and leaves the directory as it was.
nothing_changed() {
    run 1 "$@"
    says 'nothing was changed'
    diff -r before target || fail "the directory is not as it was: $*"
}

# One statement on each line, every edge between nodes that exist.
is_graph() {
    if command -v dot >/dev/null; then
        dot -Tsvg "$1" >graph.svg || fail "dot refuses $1"
    fi
    awk 'NR == 1 { good = ($0 == "digraph batch {"); next }
         /^    node \[shape=box\];$/ { next }
         /^    n[0-9]+ \[label="[a-z_]+ [0-9]+\\n[^"]+"(, style=rounded)?\];$/ { nodes[$1] = 1; next }
         /^    n[0-9]+ -> n[0-9]+ \[label="(success|failure|always)"(, style=bold)?\];$/ {
             from[$1] = 1; to[$3] = 1; next }
         $0 == "}" { ended++; next }
         { print "not a statement: " $0; good = 0 }
         END { for (n in from) { good = good && (n in nodes) }
               for (n in to) { good = good && (n in nodes) }
               exit !(good && ended == 1) }' "$1" || fail "$1 is no graph of a batch"
}

: >empty
printf 1 >one
head -c 65536 /dev/urandom >chunk
head -c 65537 /dev/urandom >more
head -c 5000000 /dev/urandom >large # more chunks than there are buffers
renew

# ---- all are replaced -------------------------------------------------------------------------------
run 0 --dot good.dot target a=empty b=one c=chunk d=more e=large
for pair in a:empty b:one c:chunk d:more e:large; do
    cmp "target/${pair%:*}" "${pair#*:}" || fail "$pair differs"
    says "^${pair%:*}: replaced$"
done
[ "$(ls -A target | wc -l)" -eq 5 ] || fail "something else is in the directory"
is_graph good.dot
for text in 'renameat 507\\ndone 0' 'write 505\\ndone 19264' 'unlinkat 108\\nskipped for n'; do
    grep -q "$text" good.dot || fail "not in the graph: $text"
done

# ---- none is replaced -------------------------------------------------------------------------------
renew
nothing_changed --dot bad.dot target a=large b=missing c=one
says "cannot open 'missing'"
is_graph bad.dot
grep -q 'openat 200\\nfailed ENOENT' bad.dot || fail "the failed open is not in the graph"

nothing_changed --dot bad.dot target a=large b=before c=one # a directory opens, but cannot be read
says "'before': Is a directory"
is_graph bad.dot
grep -q 'cancelled by fail-fast' bad.dot || fail "nothing was cancelled"
grep -q 'unlinkat 108\\ndone 0' bad.dot || fail "the roll-back did not run"

nothing_changed target a=large a=one
says "beside 'a': File exists"
nothing_changed target a=/proc/self/status b=one
says "'/proc/self/status': it is longer than it was"
nothing_changed missing a=one
says "cannot open 'missing'"
(
    trap '' XFSZ # a file that grows too large is EFBIG then
    ulimit -f 1000
    nothing_changed target a=one b=large
    says "write the copy beside 'b': File too large"
)
run 1 --dot missing/graph.dot target a=missing
says 'missing/graph.dot: No such file'
for bad in a= =one a dir/a=one; do
    run 2 target "$bad"
    says 'usage:'
done

# ---- some are replaced ------------------------------------------------------------------------------
mkdir target/b.d
run 3 --dot middle.dot target a=one b.d=chunk c=large
says "cannot replace 'b.d'"
says '^a: replaced$'
says '^b.d: not replaced$'
says '^c: not replaced$'
cmp target/a one
[ "$(ls -A target | tr '\n' ' ')" = 'a b b.d ' ] || fail "something else is in the directory"
is_graph middle.dot
grep -q 'fsync 6\\ndone 0' middle.dot || fail "the directory was not synced"

# ---- a signal ---------------------------------------------------------------------------------------
renew
mkfifo fifo
"$program" target a=large b=fifo >out 2>err &
child=$!
until grep -q '^SigCgt:.*[4-7c-f]...$' "/proc/$child/status"; do # SIGTERM is caught
    sleep 0.1
done
kill -TERM "$child"
sleep 0.02
kill -TERM "$child" 2>/dev/null || true # as timeout(1) does: a second one is no worse
tries=0
while kill -0 "$child" 2>/dev/null && [ "$(cut -d ' ' -f 3 "/proc/$child/stat")" != Z ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || fail "it does not end"
    if [ "$tries" -eq 10 ]; then
        : <>fifo # the fallback cannot interrupt the open
    fi
    sleep 0.1
done
status=0
wait "$child" || status=$?
[ "$status" -eq 1 ] || fail "status $status after the signal"
says 'nothing was changed'
diff -r before target || fail "the directory is not as it was after the signal"

# Whenever it comes: all or none, and nothing stays.
head -c 20000000 /dev/urandom >large
for delay in 0.02 0.04 0.06 0.08 0.1 0.15 0.2; do
    renew
    timeout -s TERM "$delay" "$program" target a=large b=large >out 2>err || true
    if [ -s out ]; then
        cmp target/a large
        cmp target/b large
        [ "$(ls -A target | wc -l)" -eq 2 ] || fail "something else is in the directory"
    else
        diff -r before target || fail "the directory is not as it was after the signal at $delay s"
    fi
done

# ---- a directory that takes nothing -----------------------------------------------------------------
if [ "$(id -u)" -ne 0 ]; then
    echo "skipped: a full file system (needs root)"
    chmod 555 target before
    nothing_changed target a=one b=chunk
    says "Permission denied"
elif mount -t tmpfs -o size=1m none target 2>err; then
    mounted=$work/target
    cp -a before/. target
    nothing_changed target a=one b=large
    says "write the copy beside '[ab]': No space left on device" # whichever comes to the end first
    mount -o remount,ro target
    nothing_changed target a=one b=chunk
    says 'Read-only file system'
else
    echo "skipped: a full and a read-only file system (cannot mount): $(cat err)"
fi
