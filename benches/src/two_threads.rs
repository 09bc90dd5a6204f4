//! Two threads on two cores that begin together.

use roko_os::affinity::{allowed_cores, pin_current_thread};
use std::sync::{Barrier, OnceLock};

/// The cores this process may use, as they were before any thread was pinned.
pub fn cores() -> &'static [usize] {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(|| allowed_cores().unwrap_or_default())
}

/// Runs both at once, each pinned to a core of its own; neither begins before both are there. `None` when there are
/// no two cores: two threads that take turns on one core measure the scheduler.
pub fn run_pinned<A: Send, B: Send>(
    near: impl FnOnce() -> A + Send,
    far: impl FnOnce() -> B + Send,
) -> Option<(A, B)> {
    let cores = cores();
    let [first, second, ..] = *cores else { return None };
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let far = scope.spawn(|| {
            pin(second, cores);
            barrier.wait();
            far()
        });
        // The caller's own thread stays where the scheduler likes it.
        let near = scope.spawn(|| {
            pin(first, cores);
            barrier.wait();
            near()
        });
        let near = near.join().expect("a bench's thread does not panic");
        Some((near, far.join().expect("a bench's thread does not panic")))
    })
}

fn pin(core: usize, allowed: &[usize]) {
    if let Err(error) = pin_current_thread(core, allowed) {
        eprintln!("not pinned: {error}");
    }
}
