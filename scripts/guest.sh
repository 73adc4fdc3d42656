# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Guests: a Debian kernel of choice in QEMU, without KVM, on two CPUs in two NUMA nodes, with programs of
# the build on its disk. To be sourced after scripts/lib.sh by a script that has required
# $packages_kernels. Everything it makes lies in build/kernels; nothing is installed.

# shellcheck disable=SC2154 # of scripts/lib.sh
guests=$root/build/kernels
# What a kernel may have as a module: the disk with its file system, FUSE and virtual networks for the tests. crc32c_generic
# is asked for by ext4 at run time, not linked with it.
guest_modules="virtio_pci virtio_blk crc32c_generic ext4 fuse veth"

# kernel_version NAME, kernel_flavour NAME: of a name such as 6.1 or 6.1-amd64.
kernel_version() {
    echo "${1%%-*}"
}

kernel_flavour() {
    case $1 in
    *-*) echo "${1#*-}" ;;
    *) echo cloud-amd64 ;;
    esac
}

# kernel_package NAME: the newest package of this series and flavour that apt offers, as PACKAGE=VERSION;
# nothing if there is none. Debian writes 6.1.0-56-amd64, 6.12.117+deb12-amd64, 6.12.9+bpo-amd64.
kernel_package() {
    local series package candidate
    series=$(kernel_version "$1")
    apt-cache pkgnames linux-image- |
        grep -E "^linux-image-${series//./\\.}\.[0-9]+(-[0-9.]+)?(\+[a-z0-9.]+)?-$(kernel_flavour "$1")\$" |
        sort -rV |
        while read -r package; do
            # Packages of which apt knows the name alone have no candidate.
            candidate=$(apt-cache policy "$package" | sed -n 's/^ *Candidate: //p')
            if [ -n "$candidate" ] && [ "$candidate" != "(none)" ]; then
                echo "$package=$candidate"
                break
            fi
        done
}

# kernel_package_or_update NAME: the same, after apt's lists have been renewed if they name none.
kernel_package_or_update() {
    local package
    package=$(kernel_package "$1")
    if [ -z "$package" ] && [ "$(id -u)" -eq 0 ]; then
        apt-get update -q >&2 || true
        package=$(kernel_package "$1")
    fi
    echo "$package"
}

# kernel_fetch NAME: prints the folder with the unpacked package, downloading it if it is not there yet. Older
# packages of the series make room.
kernel_fetch() {
    local package folder part
    package=$(kernel_package_or_update "$1")
    [ -n "$package" ] || die "apt offers no linux-image-$(kernel_version "$1").*-$(kernel_flavour "$1");" \
        "Debian 12 has 6.1 and, in bookworm-security or bookworm-backports, 6.12"
    folder=$guests/packages/$1/${package/=/_}
    if [ ! -d "$folder" ]; then
        say "downloading $package" >&2
        part=$guests/packages/$1.part
        rm -rf "$part" "$guests/packages/$1"
        mkdir -p "$part/root" "$(dirname "$folder")"
        # apt's own user cannot write here: a download as root is one without its sandbox.
        (cd "$part" && apt-get download -q -o APT::Sandbox::User=root "$package" >&2) ||
            die "apt-get could not download $package"
        dpkg-deb -x "$part"/*.deb "$part/root"
        mv "$part/root" "$folder"
        rm -rf "$part"
    fi
    echo "$folder"
}

# guest_initramfs KERNEL_FOLDER LIST OUT: busybox, the modules, tests/guest/init and the LIST of tests.
guest_initramfs() {
    local folder=$1 list=$2 out=$3 release tree module line
    # Newer packages have all of it below usr.
    [ -e "$folder/lib" ] || ln -s usr/lib "$folder/lib"
    release=$(basename "$folder"/lib/modules/*)
    depmod -b "$folder" "$release"

    tree=$(mktemp -d "$guests/initramfs.XXXXXX")
    mkdir -p "$tree"/{bin,dev,proc,sys,root,modules}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    cp tests/guest/init "$tree/init"
    cp "$list" "$tree/list"
    : >"$tree/modules/order"
    # shellcheck disable=SC2086 # a list of words
    for module in $guest_modules; do
        modprobe -d "$folder" -S "$release" --show-depends "$module"
    done | while read -r line module _; do
        [ "$line" = insmod ] || continue # builtin
        line=$(basename "$module" .xz)
        [ ! -e "$tree/modules/$line" ] || continue
        case $module in
        *.xz) xz -dc "$module" >"$tree/modules/$line" ;;
        *) cp "$module" "$tree/modules/$line" ;;
        esac
        echo "$line" >>"$tree/modules/order"
    done
    (cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 >"$out"
    rm -rf "$tree"
}

# guest_disk OUT PROGRAM...: an ext4 image with the programs, the libraries they are linked with, the public
# headers and docs/KERNEL.md (which some tests read, where they were built), busybox and tests/guest/run. A disk, and not a part
# of the initramfs, because tests of late writes need one.
guest_disk() {
    local out=$1 tree library applet
    shift
    tree=$(mktemp -d "$guests/disk.XXXXXX")
    mkdir -p "$tree"/{bin,dev,proc,sys,run,etc,guest/tests}
    mkdir -m 1777 "$tree/tmp"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    cp tests/guest/run "$tree/guest/run"
    echo "root:x:0:0:root:/:/bin/sh" >"$tree/etc/passwd"
    echo "root:x:0:" >"$tree/etc/group"
    ln -s /proc/self/mounts "$tree/etc/mtab" # else libfuse asks mount(8) to keep it
    cp "$@" "$tree/guest/tests"
    mkdir -p "$tree$root"/tests/{misuse,conformance} "$tree$root/docs"
    cp -r include "$tree$root/include"
    cp docs/KERNEL.md "$tree$root/docs"
    # The loader stands in the list as a path alone. libgcc_s is loaded when a thread ends early.
    {
        ldd "$@" | sed -n 's/^.* => \(\/[^ ]*\) (.*/\1/p; s/^\t\(\/[^ ]*\) (.*/\1/p'
        "${CC:-cc}" -print-file-name=libgcc_s.so.1
    } | sort -u | while read -r library; do
        mkdir -p "$tree$(dirname "$library")"
        cp -L "$library" "$tree$library"
    done
    rm -f "$out"
    mke2fs -q -t ext4 -b 4096 -m 0 -E root_owner=0:0 -d "$tree" "$out" 768M >/dev/null
    rm -rf "$tree"
}

# guest_boot KERNEL_FOLDER INITRAMFS DISK CONSOLE LIMIT_S [NAME=VALUE...]: becomes the guest, until it switches
# itself off or its time is over; its report goes to standard output, its console to a file. The names become
# environment of everything in it. The disk stays as it is.
guest_boot() {
    local folder=$1 initramfs=$2 disk=$3 console=$4 limit_s=$5 kernel
    shift 5
    kernel=("$folder"/boot/vmlinuz-*)
    # tsc=reliable: else it is found unsteady now and then, and what replaces it takes a trap per look at the
    # clock. mitigations=off: they cost time, and there is nobody to be safe from.
    export TMPDIR=$guests # of what the guest writes to its disk
    # foreground: what ends this script ends the guest too. -cpu max: all that TCG can emulate. The disk is
    # slowed down so that a read of some MiB is still on its way when a test looks.
    exec timeout --foreground --kill-after=10 "$limit_s" \
        qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 1024M \
        -smp 2,sockets=2,cores=1,threads=1 \
        -object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=512M \
        -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1 \
        -numa dist,src=0,dst=1,val=21 \
        -kernel "${kernel[0]}" -initrd "$initramfs" \
        -append "console=ttyS0 loglevel=5 panic=-1 oops=panic tsc=reliable mitigations=off $*" \
        -nodefaults -no-reboot -display none -serial "file:$console" -serial stdio \
        -drive "file=$disk,format=raw,if=none,id=disk,snapshot=on,cache=unsafe,throttling.bps-read=60000000" \
        -device virtio-blk-pci,drive=disk </dev/null
}
