//! Hints to the memory system: huge pages beneath the large tables, and lines fetched before they are needed.
//!
//! A pool of a hundred thousand transactions is far larger than the caches, and each transaction touches a dozen places
//! of it. On pages of 4 KiB most of these touches miss the TLB too.

use rustix::mm::{Advice, madvise};

/// Bytes of a huge page on x86-64, and on arm64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Reserves room for `items`, and asks for huge pages beneath it. A system that has none gives small ones.
pub(super) fn reserve<T>(items: usize) -> Vec<T> {
    let reserved: Vec<T> = Vec::with_capacity(items);
    let start = reserved.as_ptr() as usize;
    let end = start + reserved.capacity() * size_of::<T>();
    let first = start.next_multiple_of(HUGE_PAGE);
    let bytes = (end / HUGE_PAGE * HUGE_PAGE).saturating_sub(first);
    if bytes > 0 {
        // SAFETY: the range is inside the allocation, and the advice changes the pages' size, not what they hold.
        let advised = unsafe { madvise(first as *mut _, bytes, Advice::LinuxHugepage) };
        // Without it the pool is slower and nothing else.
        let _ = advised;
    }
    reserved
}

/// `items` copies of `value`, on huge pages where there are some.
pub(super) fn filled<T: Clone>(items: usize, value: T) -> Box<[T]> {
    let mut table = reserve(items);
    table.resize(items, value);
    table.into_boxed_slice()
}

/// Fetches the line that holds the beginning of an item; an index out of range does nothing.
#[inline(always)]
pub(super) fn prefetch<T>(items: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = items.get(index) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch changes nothing that a program can see, and the address is that of a live item.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(item).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, index);
}

/// Fetches the first two lines of an item that is longer than one.
#[inline(always)]
pub(super) fn prefetch_wide<T>(items: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = items.get(index) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line: *const i8 = core::ptr::from_ref(item).cast();
        // SAFETY: as above; the second line is an address only.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line);
            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, index);
}
