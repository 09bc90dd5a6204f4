//! How often the slow path answers: so many a second to each source, and so many to all. A table of fixed size, in which
//! sources whose hashes meet share a place.

use core::hash::BuildHasher;
use core::net::IpAddr;

/// Answers a second to one source: a ping every ten milliseconds.
pub(super) const PER_SOURCE_PER_SECOND: u64 = 100;
/// Answers a second to all: what a link of a thousand hosts that look for this one needs.
pub(super) const TOTAL_PER_SECOND: u64 = 1_000;
const PLACES: usize = 512;

/// Buckets by the generic cell rate algorithm (ITU-T I.371): each holds when it was or will be full, and a second's worth fits.
pub(super) struct AnswerLimit<S> {
    sources: Box<[u64; PLACES]>,
    total: u64,
    hasher: S,
}

const SECOND_US: u64 = 1_000_000;

fn take(full_at: &mut u64, per_second: u64, now_us: u64) -> bool {
    let next = (*full_at).max(now_us) + SECOND_US / per_second;
    if next > now_us + SECOND_US {
        return false;
    }
    *full_at = next;
    true
}

impl<S: BuildHasher> AnswerLimit<S> {
    /// All buckets full; `hasher` is seeded, so that nobody knows who shares his place.
    pub(super) fn new(hasher: S) -> AnswerLimit<S> {
        AnswerLimit { sources: Box::new([0; PLACES]), total: 0, hasher }
    }

    /// Whether `source` gets an answer now; a prefix of 64 bits is one source of IPv6.
    pub(super) fn allows(&mut self, source: IpAddr, now_us: u64) -> bool {
        let key = match source {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        let place = self.hasher.hash_one(key) as usize % PLACES;
        // The source first: one that asks too often takes nothing from the others.
        take(&mut self.sources[place], PER_SOURCE_PER_SECOND, now_us)
            && take(&mut self.total, TOTAL_PER_SECOND, now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::hash_map::RandomState;

    #[test]
    fn each_source_has_its_rate_and_all_together_have_theirs() {
        let mut limit = AnswerLimit::new(RandomState::new());
        let one: IpAddr = [192, 0, 2, 1].into();
        let granted =
            |limit: &mut AnswerLimit<_>, ip, us| (0..5_000).filter(|_| limit.allows(ip, us)).count();
        assert_eq!(granted(&mut limit, one, 9 * SECOND_US), 100);
        assert_eq!(granted(&mut limit, one, 9 * SECOND_US + 100_000), 10, "a tenth of a second later");
        let all = (0..=255u8).map(|last| granted(&mut limit, [198, 51, 100, last].into(), 20 * SECOND_US));
        assert_eq!(all.sum::<usize>(), 1_000);
    }
}
