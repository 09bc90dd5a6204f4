//! Hints to the memory: what a burst will touch is asked for before the first of it is touched, so that its cache misses
//! overlap. A hint changes nothing and cannot fail.

/// Bytes of a cache line.
const LINE: usize = 64;
/// Lines asked for at most; more would displace each other.
const LINES_MAX: usize = 8;

/// Asks for a value's memory, up to its first 512 bytes.
#[inline]
pub fn value<T>(value: &T) {
    let (first, bytes) = (core::ptr::from_ref(value).cast::<u8>(), size_of::<T>());
    // All but the last branch are decided when it is compiled.
    if bytes == 0 {
    } else if bytes <= align_of::<T>() && bytes <= LINE {
        // It does not cross into a second line.
        hint(first);
    } else if align_of::<T>() >= LINE {
        (0..(bytes / LINE).min(LINES_MAX)).for_each(|line| hint(first.wrapping_add(line * LINE)));
    } else if bytes <= LINE {
        // Both may be the same line.
        hint(first);
        hint(first.wrapping_add(bytes - 1));
    } else {
        lines(first, bytes);
    }
}

/// Asks for the line that a value begins in.
#[inline]
pub fn line<T>(value: &T) {
    hint(core::ptr::from_ref(value).cast());
}

/// Asks for the first bytes, up to 512.
#[inline]
pub fn bytes(bytes: &[u8]) {
    lines(bytes.as_ptr(), bytes.len());
}

#[inline]
fn lines(first: *const u8, bytes: usize) {
    // The first line may begin in the middle.
    let lines = (first.addr() % LINE + bytes).div_ceil(LINE).min(LINES_MAX);
    for line in 0..lines {
        hint(first.wrapping_add(line * LINE));
    }
}

#[inline]
fn hint(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address, mapped or not, reads nothing and faults never (Intel SDM, PREFETCHh); every
        // x86-64 CPU has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    #[test]
    fn hints_change_nothing_whatever_they_point_at() {
        let all: Vec<u8> = (0..=255).cycle().take(2_000).collect();
        for from in [0, 1, 63, 64, 1_999, 2_000] {
            super::bytes(&all[from..]);
        }
        super::value(&[0_u64; 1_000]);
        super::value(&());
        super::line(&all[7]);
        super::value(&[0_u8; 24]);
        super::value(&0_u64);
        assert!(all.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}
