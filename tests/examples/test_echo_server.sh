#!/bin/sh
# SPDX-License-Identifier: MIT
# The echo server serves idle and busy connections, every byte right, and ends in order by a signal.
# Usage: test_echo_server.sh SERVER LOAD IDLE BUSY MESSAGES
set -eu
server=$1
load=$2
output=$(mktemp)
"$server" >"$output" &
pid=$!
trap 'kill -9 $pid 2>/dev/null || true; rm -f "$output"' EXIT
tries=0
until grep -q '^port ' "$output"; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ] || ! kill -0 $pid; then
        echo "the server did not start"
        exit 1
    fi
    sleep 0.1
done
port=$(sed -n 's/^port //p' "$output")
"$load" "$port" "$3" "$4" "$5"
kill -TERM $pid
if ! wait $pid; then
    echo "the server did not end in order"
    exit 1
fi
cat "$output"
echoed=$(sed -n 's/^echoed \([0-9]*\) messages.*/\1/p' "$output")
if [ "$echoed" -lt "$5" ]; then
    echo "it echoed $echoed messages, not $5"
    exit 1
fi
