# shellcheck shell=bash
# Compiles our program for the guest, boots it beside the harness, and judges; sourced by scripts/nic-vm.

# How long a boot with both runs may take: a minute and a half on two busy cores, with room.
boot_seconds_max=400

run_guest() {
    local suite qemu status=0 run
    stage "crates" fetch_crates
    for suite in "${suites[@]}"; do
        stage "nic_vm for $suite" compile "$suite"
    done
    # Paths of Unix sockets end at 107 bytes, so they are not in the cache.
    run=$(mktemp -d /tmp/roko-nic-vm.XXXXXX)
    # shellcheck disable=SC2064 # The folder is known now.
    trap "rm -rf '$run'" EXIT
    stage "initial file system" assemble "$run"
    mkdir -p "$dir/trixie/run/nic-vm"
    mount --bind "$run" "$dir/trixie/run/nic-vm"
    : >"$run/guest.jsonl"
    say "$(printf '%4d s  %s' "$SECONDS" "boot: emulated igb in QEMU/TCG")"
    emulator "$frames" >"$dir/log/qemu.log" 2>&1 &
    qemu=$!
    # The program of the one Debian whose QEMU runs does for the harness as well.
    timeout "$boot_seconds_max" chroot "$dir/trixie" /target/debug/examples/nic_vm harness /run/nic-vm "$frames" \
        asks plain 2> >(tee "$dir/log/harness.log" >&2) || status=$?
    if [ "$status" = 0 ]; then
        await_end "$qemu" || status=1
    fi
    cp "$run/guest.jsonl" "$run/console.log" "$dir/log/" 2>/dev/null || true
    if [ "$status" != 0 ]; then
        kill "$qemu" 2>/dev/null || true
        tail -n 15 "$dir/log/console.log" "$dir/log/qemu.log" >&2 || true
        die "the run failed (exit code $status). What the guest said: $dir/log/console.log and guest.jsonl; QEMU: $dir/log/qemu.log"
    fi
    say "$(printf '%4d s  %s' "$SECONDS" "every check held: emulated igb in QEMU/TCG, so nothing here says how fast a card is")"
}

# Waits until the machine has switched itself off, and says how it ended.
await_end() {
    local waited=0
    while kill -0 "$1" 2>/dev/null; do
        if [ "$waited" -ge 300 ]; then
            say "the guest did not switch itself off within 30 s"
            return 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    wait "$1" || {
        say "QEMU ended with exit code $?"
        return 1
    }
}

fetch_crates() {
    cd "$root"
    cargo fetch --locked --offline --target x86_64-unknown-linux-gnu ||
        cargo fetch --locked --target x86_64-unknown-linux-gnu
}

# Compiles inside the Debian whose DPDK it is for, with this machine's compiler and crates. Of what was compiled for the
# first, the second takes all that does not look at DPDK.
compile() {
    local inside=$dir/$1 first=$dir/target-${suites[0]} sysroot forget=true
    sysroot=$(cd "$root" && rustc --print sysroot)
    [ -x "$sysroot/bin/cargo" ] || die "no cargo in $sysroot: the Rust toolchain must be one of rustup's (see rustup.rs)"
    mkdir -p "$inside"/{src,rust,cargo/registry,target}
    if [ ! -e "$dir/target-$1" ] && [ -e "$first" ]; then
        cp -a "$first" "$dir/target-$1"
        forget="cargo clean --locked --offline -p dpdk-sys"
    fi
    mkdir -p "$dir/target-$1"
    mountpoint -q "$inside/proc" || mount -t proc proc "$inside/proc"
    mountpoint -q "$inside/dev" || mount --rbind /dev "$inside/dev"
    mount --bind "$root" "$inside/src"
    mount --bind "$sysroot" "$inside/rust"
    mount --bind "${CARGO_HOME:-$HOME/.cargo}/registry" "$inside/cargo/registry"
    mount --bind "$dir/target-$1" "$inside/target"
    # The guest's CPU is the emulator's, not this machine's.
    nice -n 10 chroot "$inside" /usr/bin/env -i PATH=/rust/bin:/usr/bin:/bin HOME=/root CARGO_HOME=/cargo \
        CARGO_TARGET_DIR=/target RUSTFLAGS="-C target-cpu=x86-64-v2" \
        sh -ec "cd /src; $forget; cargo build --locked --offline -j 2 -p roko-pipeline --features dpdk --example nic_vm"
}

# The guest's whole file system, in memory: busybox, modules, and for each DPDK our program with its libraries.
assemble() {
    local guest=$1/guest suite number=1 inside
    mkdir -p "$guest"/{bin,dev,proc,sys,modules}
    cp "$dir/trixie/usr/bin/busybox" "$guest/bin/busybox"
    cp "$dir/trixie"/guest-modules/*.ko "$guest/modules/"
    cp "$root/scripts/nic-vm.d/init" "$guest/init"
    chmod 755 "$guest/init"
    for suite in "${suites[@]}"; do
        inside=$guest/run-$number-$suite
        mkdir -p "$inside"/{dev,proc,sys,tmp,var/run}
        cp "$dir/target-$suite/debug/examples/nic_vm" "$inside/nic_vm"
        strip --strip-debug "$inside/nic_vm"
        copy_libraries "$dir/$suite" "$inside"
        number=$((number + 1))
    done
    mount --bind "$guest" "$dir/trixie/mnt"
    chroot "$dir/trixie" sh -c 'cd /mnt && find . | cpio --quiet -o -H newc' >"$1/initrd"
    umount "$dir/trixie/mnt"
    rm -rf "$guest"
    cp "$dir/trixie/vmlinuz" "$1/vmlinuz"
    ls -l "$1"
}

# copy_libraries FROM TO: the program's shared libraries, DPDK's plugins for this machine, and what they need.
copy_libraries() {
    local from=$1 to=$2 file
    chroot "$from" bash -euc '
        cd /
        plugins=$(echo /usr/lib/x86_64-linux-gnu/dpdk/pmds-*/librte_{bus_pci,mempool_ring,mempool_stack,net_e1000}.so)
        printf "%s\n" $plugins
        ldd /target/debug/examples/nic_vm $plugins | grep -o "/[^ :]* (" | tr -d " ("' | sort -u |
        while read -r file; do
            mkdir -p "$to$(dirname "$file")"
            cp -L "$from$file" "$to$file"
        done
}

# emulator FRAMES: QEMU, in the place of the shell that calls it. no_timer_check: Linux counts timer interrupts at boot and
# panics when an emulator that waits for its host's cores delivers too few. One CPU: a second one's timer gets lost likewise.
emulator() {
    local at=/run/nic-vm
    exec chroot "$dir/trixie" timeout "$boot_seconds_max" qemu-system-x86_64 \
        -accel tcg,thread=multi -M q35,kernel-irqchip=split -cpu max -smp 1 -m 1024 \
        -nodefaults -display none -no-reboot -kernel $at/vmlinuz -initrd $at/initrd \
        -append "console=ttyS0 panic=-1 no_timer_check intel_iommu=on iommu=pt roko.frames=$1" \
        -serial file:$at/console.log -serial file:$at/guest.jsonl \
        -qtest unix:$at/qtest.sock,server=on,wait=off -qtest-log /dev/null -qmp unix:$at/monitor.sock,server=on,wait=off \
        -device intel-iommu,intremap=on \
        -device pcie-root-port,id=slot0,chassis=1,slot=1 -device igb,bus=slot0,netdev=cable0,mac=02:00:00:00:00:10 \
        -device pcie-root-port,id=slot1,chassis=2,slot=2 -device igb,bus=slot1,netdev=cable1,mac=02:00:00:00:00:11 \
        -netdev "$(cable 0)" -netdev "$(cable 1)"
}

# One Unix datagram is one Ethernet frame.
cable() {
    echo "dgram,id=cable$1,local.type=unix,local.path=/run/nic-vm/port$1.sock,remote.type=unix,remote.path=/run/nic-vm/host$1.sock"
}
