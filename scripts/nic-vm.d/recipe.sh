# shellcheck shell=bash
# How the guest of scripts/nic-vm is made, from Debian's packages alone; sourced by it. A change here makes a new guest.
#
#   bookworm/  DPDK 22.11 with the rebuilt driver, and what compiles our program against it
#   trixie/    DPDK 24.11 as packaged, the same tools, QEMU 10, Linux 6.12, busybox
#   target-*/  cargo's folder for each

: "${dir:=}"
suites=(bookworm trixie)
tools="gcc,libc6-dev,pkgconf,libdpdk-dev,xz-utils"
declare -A packages=(
    [bookworm]="$tools,libclang1-14,libclang-common-14-dev"
    [trixie]="$tools,libclang1-19,libclang-common-19-dev,qemu-system-x86,busybox-static,kmod,cpio"
)

recipe_key() {
    sha256sum "$root/scripts/nic-vm.d/recipe.sh" | cut -c 1-16
}

is_built() {
    [ -e "$dir/built" ]
}

# stage NAME COMMAND...: runs it with its output in a log, says how long it took, and on failure where to look.
stage() {
    local name=$1 log=$dir/log/${1// /-}.log began=$SECONDS
    shift
    say "$(printf '%4d s  %s' "$SECONDS" "$name")"
    # Not in a condition: set -e stops the step at its first error.
    local status=0
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1
    status=$?
    set -e
    [ "$status" = 0 ] && return
    tail -n 15 "$log" >&2
    die "$name failed after $((SECONDS - began)) s (exit code $status); all of it: $log"
}

# once NAME COMMAND...: a stage whose outcome is kept.
once() {
    local mark="$dir/.done-${1// /-}"
    [ -e "$mark" ] && return
    stage "$@"
    touch "$mark"
}

build_guest() {
    local suite
    command -v mmdebstrap >/dev/null || apt_install mmdebstrap debian-archive-keyring ||
        die "mmdebstrap is needed: ${apt_refusal:-it could not be installed}"
    for suite in "${suites[@]}"; do
        once "Debian $suite" make_root "$suite"
    done
    once "driver with IEEE 1588" in_root bookworm build_driver
    once "kernel" in_root trixie fetch_kernel
    touch "$dir/built"
}

# The mirror that this machine's apt uses.
mirror() {
    local uri
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
    echo "${uri:-http://deb.debian.org/debian}"
}

make_root() {
    local suite=$1 from
    from=$(mirror)
    rm -rf "${dir:?}/$suite"
    nice -n 10 mmdebstrap --mode=root --variant=apt --include="${packages[$suite]}" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$dir/$suite" "deb $from $suite main" "deb-src $from $suite main"
}

# in_root SUITE FUNCTION...: runs a function of this file inside; the mounts end with the caller's namespace.
in_root() {
    local inside=$dir/$1
    shift
    mountpoint -q "$inside/proc" || mount -t proc proc "$inside/proc"
    mountpoint -q "$inside/dev" || mount --rbind /dev "$inside/dev"
    cp -L /etc/resolv.conf "$inside/etc/resolv.conf"
    # The function's text goes in by name: nothing of this machine's environment does.
    nice -n 10 chroot "$inside" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
        bash -euc "$(declare -f "$1"); \"\$@\"" in_root "$@"
}

# DPDK's igb driver tells which frames were stamped, and asks for stamps of departure, only when it is compiled with
# RTE_LIBRTE_IEEE1588, and Debian does not. The switch is looked at in the driver alone, which is a plugin: so the same
# source is compiled once more, against the packaged libraries, and takes the plugin's place. That takes ten seconds where
# all of DPDK takes minutes, and everything else stays what Debian's users have.
build_driver() {
    local plugin work=/tmp/dpdk
    rm -rf "$work" && mkdir "$work" && cd "$work"
    apt-get update -qq
    apt-get source --download-only -qq dpdk
    tar --wildcards --strip-components=1 -xf dpdk_*.orig.tar.xz '*/drivers/net/e1000' '*/drivers/bus/pci' \
        '*/lib/ethdev' '*/lib/eal/include'
    plugin=$(readlink -e /usr/lib/x86_64-linux-gnu/dpdk/pmds-*/librte_net_e1000.so)
    # shellcheck disable=SC2046 # The flags are words.
    gcc -shared -fPIC -O2 -w -DRTE_LIBRTE_IEEE1588 -DALLOW_INTERNAL_API -DALLOW_EXPERIMENTAL_API \
        $(pkg-config --cflags libdpdk) -Idrivers/net/e1000 -Idrivers/net/e1000/base -Idrivers/bus/pci \
        -Ilib/ethdev -Ilib/eal/include drivers/net/e1000/*.c drivers/net/e1000/base/*.c -Wl,-z,defs \
        -Wl,-soname,"$(basename "${plugin%.*}")" -o driver.so \
        -lrte_ethdev -lrte_mbuf -lrte_mempool -lrte_bus_pci -lrte_pci -lrte_net -lrte_eal -lbsd
    cp driver.so "$plugin"
    cd / && rm -rf "$work" /var/lib/apt/lists
}

# The kernel, and the modules for the cards in the order in which they are loaded.
fetch_kernel() {
    local package version module number=10
    cd /tmp
    apt-get update -qq
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    apt-get download -qq "$package"
    dpkg-deb -x "$package"_*.deb /
    rm "$package"_*.deb
    version=${package#linux-image-}
    cp "/boot/vmlinuz-$version" /vmlinuz
    depmod "$version"
    mkdir -p /guest-modules
    for module in $(modprobe --set-version "$version" --show-depends --all vfio-pci vfio_iommu_type1 igb |
        awk '$1 == "insmod" && !seen[$2]++ {print $2}'); do
        xz -dc "$module" >"/guest-modules/$number-$(basename "$module" .xz)"
        number=$((number + 1))
    done
    ls -l /guest-modules
    rm -rf "/usr/lib/modules/$version" /var/lib/apt/lists
}
