#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# packages.sh ROOT: what scripts/lib.sh does about missing packages, with an apt-get, an id and a sudo that
# only write down how they were called.
set -eu

root=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
failures=0

fail() {
    echo "$*"
    failures=$((failures + 1))
}

# A machine that has a shell and its usual tools, but nothing to build with.
mkdir "$place/bare" "$place/calls"
for tool in bash sh sed sort head cat dirname env sleep; do
    ln -s "$(command -v "$tool")" "$place/bare/$tool"
done
cat >"$place/bare/apt-get" <<END
#!/bin/sh
echo "\$*" >>"$place/calls/apt-get"
END
chmod +x "$place/bare/apt-get"

# as_user UID: who the scripts think they are; forgets the calls made so far.
as_user() {
    printf '#!/bin/sh\necho %s\n' "$1" >"$place/bare/id"
    chmod +x "$place/bare/id"
    rm -f "$place/calls/"*
}

# run SCRIPT: on the bare machine; leaves status and output.
run() {
    status=0
    output=$(env -i PATH="$place/bare" "$root/scripts/$1" 2>&1 </dev/null) || status=$?
}

expect() {
    [[ $output == *"$1"* ]] || fail "$what: does not say '$1' but: $output"
}

for script in test demo bench test-kernels; do
    what="scripts/$script without root and sudo"
    as_user 1000
    run "$script"
    [ "$status" -eq 1 ] || fail "$what: exit $status, not 1"
    expect "neither root nor sudo"
    expect "apt-get install gcc libc6-dev cmake ninja-build pkg-config liburing-dev libseccomp-dev zlib1g-dev"
    [ ! -e "$place/calls/apt-get" ] || fail "$what: calls apt-get $(cat "$place/calls/apt-get")"

    what="scripts/$script as root, where apt installs nothing"
    as_user 0
    run "$script"
    [ "$status" -eq 1 ] || fail "$what: exit $status, not 1"
    expect "still missing or too old after apt-get install: gcc"
    grep -q "^install .*-y .*liburing-dev" "$place/calls/apt-get" ||
        fail "$what: does not call apt-get install"
done

what="a user with a sudo that needs no password"
cat >"$place/bare/sudo" <<END
#!/bin/sh
echo "\$*" >>"$place/calls/sudo"
[ "\$1" = -n ] && shift
[ "\$1" = true ] || exec "\$@"
END
chmod +x "$place/bare/sudo"
as_user 1000
run test
grep -q "^-n env DEBIAN_FRONTEND=noninteractive apt-get install" "$place/calls/sudo" ||
    fail "$what: sudo is not used for apt-get install"

what="a machine that has everything"
rm -f "$place/calls/"*
mkdir "$place/front"
cp "$place/bare/apt-get" "$place/front/"
# shellcheck disable=SC2016 # expanded by the inner shell
PATH="$place/front:$PATH" bash -eu -c '. "$1/scripts/lib.sh"; require_packages $packages_test' \
    _ "$root" || fail "$what: something is missing"
[ ! -e "$place/calls/apt-get" ] || fail "$what: apt-get was called"

if [ "$failures" -ne 0 ]; then
    exit 1
fi
echo "missing packages are named or installed, and apt is left alone if there are none"
