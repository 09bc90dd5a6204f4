# shellcheck shell=bash
# What scripts/devnet and scripts/test share: finds the Rust toolchain and DPDK's packages, and installs the packages
# where this user may. Sourced, never run; it expects the repository's root in $root.

: "${root:?the script that sources this sets it}"

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# Stops with what to do when there is no Rust of the version that rust-toolchain.toml names.
require_rust() {
    local channel have
    channel=$(sed -n 's/^channel = "\(.*\)"$/\1/p' "$root/rust-toolchain.toml")
    if ! command -v cargo >/dev/null 2>&1; then
        die "cargo was not found. Install rustup (see rustup.rs), open a new shell, then:
    rustup toolchain install $channel --component rustfmt,clippy"
    fi
    if command -v rustup >/dev/null 2>&1 && [ -z "${RUSTUP_TOOLCHAIN:-}" ]; then
        # Asked from the list: running cargo here would download the toolchain without a word.
        rustup toolchain list | grep "^${channel}\([- ]\|\$\)" >/dev/null ||
            die "Rust $channel is not installed. Get it with:
    rustup toolchain install $channel --component rustfmt,clippy"
        return
    fi
    have=$(cd "$root" && rustc --version | awk '{print $2}')
    [ "$(printf '%s\n%s\n' "$channel" "$have" | sort -V | head -n 1)" = "$channel" ] ||
        die "This is Rust $have; the workspace needs $channel. Install rustup (see rustup.rs), then:
    rustup toolchain install $channel --component rustfmt,clippy"
}

has_c_compiler() {
    command -v cc >/dev/null 2>&1 && printf '#include <stdio.h>\n' | cc -E - >/dev/null 2>&1
}

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null && return 0
    compgen -G '/usr/lib*/libclang*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang*.so*' >/dev/null
}

# libclang of any version from 14 on does; Debian 12 and its relatives have 14.
libclang_package() {
    if apt-cache show libclang-14-dev >/dev/null 2>&1; then echo libclang-14-dev; else echo libclang-dev; fi
}

# Prints the Debian packages that are missing. What is asked for is what they bring, so that an installation from
# source counts too. With "c" only those that the pure-Rust build needs.
missing_packages() {
    has_c_compiler || echo gcc libc6-dev
    [ "${1:-}" = c ] && return
    command -v pkg-config >/dev/null 2>&1 || echo pkg-config
    { command -v pkg-config >/dev/null 2>&1 && pkg-config --atleast-version=22.11 libdpdk; } || echo libdpdk-dev
    { command -v pkg-config >/dev/null 2>&1 && pkg-config --atleast-version=2.8 hwloc; } || echo libhwloc-dev
    has_libclang || libclang_package
}

# Installs packages where apt-get is there and this user may run it; else fails and says why in $apt_refusal.
apt_install() {
    local as_root=()
    apt_refusal=""
    if ! command -v apt-get >/dev/null 2>&1; then
        apt_refusal="this system has no apt-get"
        return 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            apt_refusal="installing packages needs root, and sudo asks for a password"
            return 1
        fi
        as_root=(sudo)
    fi
    say "installing: $*"
    # Nothing but the program's own output may reach stdout: it may be a report that is piped on.
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
    "${apt[@]}" install -y --no-install-recommends "$@" >&2 && return 0
    say "once more with fresh package lists"
    if ! { "${apt[@]}" update >&2 && "${apt[@]}" install -y --no-install-recommends "$@" >&2; }; then
        apt_refusal="apt-get could not install them"
        return 1
    fi
}

# Sets $dpdk to yes or no, $without_dpdk to the reason for a no, and $features to cargo's arguments.
# ROKO_DPDK=no asks for the pure-Rust build.
# shellcheck disable=SC2034
prepare_packages() {
    local missing
    dpdk=yes without_dpdk="" features=()
    if [ "${ROKO_DPDK:-}" = no ]; then
        dpdk=no without_dpdk="ROKO_DPDK=no asks for it"
    else
        mapfile -t missing < <(missing_packages | tr ' ' '\n')
        if [ "${#missing[@]}" -gt 0 ] && ! { apt_install "${missing[@]}" && [ -z "$(missing_packages)" ]; }; then
            dpdk=no without_dpdk="missing: ${missing[*]} (${apt_refusal:-what apt-get installed is not enough})"
            say "Development packages for DPDK and hwloc are missing, and ${apt_refusal:-what apt-get installed is not enough}."
            say "On Debian or Ubuntu one line mends it:"
            say "    sudo apt-get install --no-install-recommends ${missing[*]}"
        fi
    fi
    if [ "$dpdk" = no ]; then
        features=(--no-default-features)
        mapfile -t missing < <(missing_packages c | tr ' ' '\n')
        if [ "${#missing[@]}" -gt 0 ] && ! { apt_install "${missing[@]}" && has_c_compiler; }; then
            die "No C compiler works here, and Rust links with it: install ${missing[*]}, then try again."
        fi
    fi
}

# Where cargo puts what it builds, as this machine's configuration says.
target_dir() {
    (cd "$root" && cargo metadata --no-deps --format-version 1 --offline) |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

# A relative CARGO_TARGET_DIR means the caller's folder, not the repository's.
absolute_target_dir() {
    case ${CARGO_TARGET_DIR:-/} in
        /*) ;;
        *) export CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;;
    esac
}
