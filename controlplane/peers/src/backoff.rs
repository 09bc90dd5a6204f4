//! How long to wait before dialing again: pure.

/// Doubles from the least wait to the most, each time spread by a quarter so that peers do not come in step.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    least_ms: u64,
    most_ms: u64,
    next_ms: u64,
}

impl Backoff {
    /// A back-off whose first wait is about `least_ms`.
    #[must_use]
    pub const fn new(least_ms: u64, most_ms: u64) -> Backoff {
        Backoff { least_ms, most_ms, next_ms: least_ms }
    }

    /// The wait after one more failure, milliseconds; `random` is any number.
    pub const fn after_failure(&mut self, random: u64) -> u64 {
        let base = self.next_ms;
        let doubled = base.saturating_mul(2);
        self.next_ms = if doubled > self.most_ms { self.most_ms } else { doubled };
        base - base / 4 + random % (base / 2 + 1)
    }

    /// It worked: the next failure waits the least again.
    pub const fn succeeded(&mut self) {
        self.next_ms = self.least_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_double_up_to_the_most_and_begin_anew(randoms in prop::collection::vec(any::<u64>(), 1..40)) {
            let mut backoff = Backoff::new(50, 5_000);
            for (failure, random) in randoms.into_iter().enumerate() {
                let base = 5_000.min(50u64 << failure.min(30));
                let wait = backoff.after_failure(random);
                prop_assert!((base - base / 4..=base + base / 4 + 1).contains(&wait));
            }
            backoff.succeeded();
            prop_assert!(backoff.after_failure(0) < 51);
        }
    }
}
