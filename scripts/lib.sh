# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What the scripts share: finding and installing what a build needs, and small output helpers. To be
# sourced by bash, with `set -eu` in force.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LC_ALL=C

# Which packages a purpose needs. Names are Debian's.
packages_build="gcc libc6-dev cmake ninja-build pkg-config liburing-dev libseccomp-dev zlib1g-dev"
packages_test="$packages_build g++ libcriterion-dev libfuse3-dev fuse3 attr acl"
packages_kernels="$packages_test qemu-system-x86 busybox-static cpio kmod e2fsprogs xz-utils"
packages_clang="clang libclang-rt-dev"
packages_prove="gcc libc6-dev spin"
# shellcheck disable=SC2034 # for .ci/run
packages_ci="$packages_kernels $packages_clang valgrind spin"

say() {
    printf '== %s\n' "$*"
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# package_reason PACKAGE: why the project wants it.
package_reason() {
    case $1 in
    gcc) echo "C compiler" ;;
    libc6-dev) echo "headers of the C library and the kernel" ;;
    cmake) echo "build system, 3.25 or newer" ;;
    ninja-build) echo "runs the build" ;;
    pkg-config) echo "finds libraries" ;;
    liburing-dev) echo "the io_uring library, 2.3 or newer, on which safering stands" ;;
    zlib1g-dev) echo "compresses in an example's worker process" ;;
    libseccomp-dev) echo "filters of system calls for worker processes, 2.5 or newer" ;;
    g++) echo "C++ compiler: tests that the headers work in C++" ;;
    libcriterion-dev) echo "test framework" ;;
    libfuse3-dev) echo "tests make slow and failing file systems with it" ;;
    fuse3) echo "mounts these file systems" ;;
    attr) echo "setfattr: tests copy extended attributes" ;;
    acl) echo "setfacl: tests copy access control lists" ;;
    clang) echo "second compiler" ;;
    libclang-rt-dev) echo "sanitizers of the second compiler" ;;
    valgrind) echo "memory checker" ;;
    spin) echo "explores all states of the models in proofs/" ;;
    qemu-system-x86) echo "runs the tests on other kernels" ;;
    busybox-static) echo "shell and tools in these guests" ;;
    cpio) echo "packs what a guest boots from" ;;
    kmod) echo "finds the kernel modules that a guest needs" ;;
    e2fsprogs) echo "makes a guest's disk" ;;
    xz-utils) echo "unpacks kernel modules" ;;
    *) die "no reason is written for package $1" ;;
    esac
}

# package_is_here PACKAGE: asks for the thing itself, not for the package, so that a compiler or a
# library that came another way counts.
package_is_here() {
    case $1 in
    gcc) command -v "${CC:-cc}" ;;
    libc6-dev) echo '#include <linux/stat.h>
#include <stdio.h>' | "${CC:-cc}" -E - ;;
    cmake) cmake_is_new_enough ;;
    ninja-build) command -v ninja ;;
    pkg-config) command -v pkg-config ;;
    liburing-dev) pkg-config --atleast-version=2.3 liburing ;;
    zlib1g-dev) pkg-config --exists zlib ;;
    libseccomp-dev) pkg-config --atleast-version=2.5 libseccomp ;;
    g++) command -v "${CXX:-c++}" ;;
    libcriterion-dev) pkg-config --exists criterion ;;
    libfuse3-dev) pkg-config --exists fuse3 ;;
    fuse3) command -v fusermount3 ;;
    attr) command -v setfattr ;;
    acl) command -v setfacl ;;
    clang) command -v clang ;;
    libclang-rt-dev) echo 'int main(void) { return 0; }' |
        clang -fsanitize=address -x c -o /dev/null - ;;
    valgrind) command -v valgrind ;;
    spin) command -v spin ;;
    qemu-system-x86) command -v qemu-system-x86_64 ;;
    busybox-static) command -v busybox && ! ldd "$(command -v busybox)" ;;
    cpio) command -v cpio ;;
    kmod) command -v depmod && command -v modprobe ;;
    e2fsprogs) command -v mke2fs ;;
    xz-utils) command -v xz ;;
    *) die "no check is written for package $1" ;;
    esac >/dev/null 2>&1
}

cmake_is_new_enough() {
    local version
    version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version //p')
    [ -n "$version" ] && [ "$(printf '3.25\n%s\n' "$version" | sort -V | head -n 1)" = 3.25 ]
}

# missing_packages PACKAGE...: prints those that are not here.
missing_packages() {
    local package
    for package in "$@"; do
        if ! package_is_here "$package"; then
            echo "$package"
        fi
    done
}

# require_packages PACKAGE...: installs what is missing through apt, or names it and stops. Does not
# touch apt if nothing is missing.
require_packages() {
    local missing package as_root=()
    mapfile -t missing < <(missing_packages "$@")
    if [ ${#missing[@]} -eq 0 ]; then
        return 0
    fi

    say "missing on this machine:"
    for package in "${missing[@]}"; do
        printf '     %-18s %s\n' "$package" "$(package_reason "$package")"
    done

    if ! command -v apt-get >/dev/null; then
        die "there is no apt here; install these yourself and start again: ${missing[*]}"
    fi
    if [ "$(id -u)" -ne 0 ]; then
        # Only a person at a terminal can answer if sudo asks for a password.
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        elif command -v sudo >/dev/null && [ -t 0 ] && sudo -v; then
            as_root=(sudo)
        else
            die "neither root nor sudo; ask an administrator for: apt-get install ${missing[*]}"
        fi
    fi

    say "installing through apt, without recommended extras: ${missing[*]}"
    "${as_root[@]}" apt-get update -q ||
        say "apt-get update had errors; going on with the package lists that are there"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null ||
        die "apt-get could not install: ${missing[*]}"

    mapfile -t missing < <(missing_packages "$@")
    if [ ${#missing[@]} -ne 0 ]; then
        die "still missing or too old after apt-get install: ${missing[*]}"
    fi
    say "all installed"
}

# build_tools: configures and builds the release library with examples and benchmarks but without tests,
# whose needs are larger, in a folder that no preset uses.
build_tools() {
    local log
    log=$(mktemp)
    say "building (release)"
    if ! (
        cd "$root" && cmake --preset release -B build/tools -DSAFERING_TESTS=OFF &&
            cmake --build build/tools
    ) >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die "the build failed"
    fi
    rm -f "$log"
}
