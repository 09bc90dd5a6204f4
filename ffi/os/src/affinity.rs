//! Where a thread runs and what it is called.

use crate::OsError;
use std::ffi::CString;

/// Cores that this thread may be pinned to.
///
/// The kernel answers with the *current* mask of the calling thread: ask before pinning, and hand the answer to
/// whoever pins, or only the pinned core is left in it.
pub fn allowed_cores() -> Result<Vec<usize>, OsError> {
    let cores = core_affinity::get_core_ids().ok_or(OsError::MaskUnreadable)?;
    Ok(cores.into_iter().map(|core| core.id).collect())
}

/// Pins the calling thread to `core`, which must be one of `allowed` (the answer of [`allowed_cores`] before any
/// pinning).
pub fn pin_current_thread(core: usize, allowed: &[usize]) -> Result<(), OsError> {
    if !allowed.contains(&core) {
        return Err(OsError::CoreNotAllowed { core, allowed: allowed.to_vec() });
    }
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
    if pinned { Ok(()) } else { Err(OsError::PinRefused { core }) }
}

/// Asks for timers that are at most 1 ns late by the kernel's own choice; the default of 50 us would swallow the
/// short sleeps of a backing-off poll loop.
pub fn sharpen_timers() -> Result<(), OsError> {
    rustix::thread::set_current_timer_slack(core::num::NonZeroU64::new(1))
        .map_err(|errno| OsError::Call { call: "prctl(PR_SET_TIMERSLACK)", source: errno.into() })
}

/// Names the calling thread; the kernel keeps the first 15 bytes.
pub fn name_current_thread(name: &str) -> Result<(), OsError> {
    let bytes = name.as_bytes();
    let kept = CString::new(&bytes[..bytes.len().min(15)])
        .map_err(|_| OsError::BadThreadName { name: name.to_owned() })?;
    rustix::thread::set_name(&kept)
        .map_err(|errno| OsError::Call { call: "prctl(PR_SET_NAME)", source: errno.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_left_with_one_core() {
        std::thread::spawn(|| {
            let allowed = allowed_cores().unwrap();
            let core = *allowed.last().unwrap();
            pin_current_thread(core, &allowed).unwrap();
            assert_eq!(allowed_cores().unwrap(), vec![core]);
            assert!(matches!(pin_current_thread(usize::MAX, &allowed), Err(OsError::CoreNotAllowed { .. })));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_takes_its_name_and_sharp_timers() {
        std::thread::spawn(|| {
            name_current_thread("roko-a-very-long-name").unwrap();
            assert_eq!(std::fs::read_to_string("/proc/thread-self/comm").unwrap(), "roko-a-very-lon\n");
            assert!(name_current_thread("a\0b").is_err());
            sharpen_timers().unwrap();
            assert_eq!(rustix::thread::current_timer_slack().unwrap(), 1);
        })
        .join()
        .unwrap();
    }
}
