//! How long the calling thread has run, and how long it was ready and did not: what the host took from it.

/// The kernel scheduler's account of one thread (`/proc/thread-self/schedstat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleTimes {
    /// Time on a core, nanoseconds.
    pub running_ns: u64,
    /// Time spent runnable while something else had the core, nanoseconds.
    pub waiting_ns: u64,
    /// Times the thread was put on a core.
    pub slices: u64,
}

/// The calling thread's times; `None` where the kernel is built without scheduler statistics.
#[must_use]
pub fn current_thread_times() -> Option<ScheduleTimes> {
    parse(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Three decimal numbers separated by spaces.
pub(crate) fn parse(text: &str) -> Option<ScheduleTimes> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(ScheduleTimes { running_ns: next()?, waiting_ns: next()?, slices: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_and_nonsense_is_not() {
        let expected = ScheduleTimes { running_ns: 12, waiting_ns: 34, slices: 5 };
        assert_eq!(parse("12 34 5\n"), Some(expected));
        assert_eq!(parse("12 34"), None);
        assert_eq!(parse("a b c"), None);
    }
}
