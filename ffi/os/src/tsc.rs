//! The time-stamp counter of x86-64: the cheapest clock there is, about 10 ns a reading in a virtual machine.
//!
//! The counter is a tick count, not a time: its rate must be calibrated against `CLOCK_MONOTONIC_RAW` (see
//! [`crate::clock`]), and it may be used across cores only where [`tsc_is_invariant`] holds.

/// The counter now, unordered: the CPU may read it before earlier instructions have finished.
#[inline]
#[must_use]
pub fn tsc() -> u64 {
    // SAFETY: RDTSC is part of every x86-64 CPU, reads no memory, and Linux leaves it enabled in user space.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter now, ordered: every earlier load and instruction has finished, and no later one has started.
#[inline]
#[must_use]
pub fn tsc_ordered() -> u64 {
    let mut core_id = 0;
    // SAFETY: RDTSCP and LFENCE exist on every x86-64 CPU with an invariant counter (RDTSCP came before it in
    // both vendors' lines); RDTSCP writes only to the local it is given.
    unsafe {
        let ticks = core::arch::x86_64::__rdtscp(&raw mut core_id);
        core::arch::x86_64::_mm_lfence();
        ticks
    }
}

/// Whether the counter runs at one rate in every power state (CPUID leaf 0x8000_0007, EDX bit 8: Intel SDM
/// volume 3, 19.17.1; AMD APM volume 3, Fn8000_0007).
#[must_use]
pub fn tsc_is_invariant() -> bool {
    const LEAF: u32 = 0x8000_0007;
    let extended_leaf_max = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    extended_leaf_max >= LEAF && core::arch::x86_64::__cpuid(LEAF).edx & (1 << 8) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_never_go_back_on_one_thread() {
        let mut last = tsc_ordered();
        for _ in 0..10_000 {
            let now = tsc_ordered();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        assert!(tsc() >= last || !tsc_is_invariant());
    }
}
