//! Who is there: a leader of whom nothing is heard gets no time to propose.
//!
//! Without this every view of a dead leader costs the others three Delta. Skips may be sent at any moment without harm to
//! safety, and a validator that comes back is heard by its votes in other leaders' views before it is asked to lead.
//! What counts as heard need not be verified: a forged vote can only make a dead leader be waited for as before.

use super::{Machine, NanoMoment, View};
use crate::collector::VIEW_HORIZON;
use roko_wire::ValidatorIndex;

/// Views in which nothing of a validator was seen before it counts as silent. A slow voter's votes come a view or two late.
const SILENT_VIEWS: u64 = 2;
/// For how many Delta nothing came of it. One Delta is a message's way; own votes are repeated each Delta.
const SILENT_DELTAS: u64 = 2;

/// When each validator was last heard, by its place in the set.
#[derive(Debug)]
pub(super) struct Hearing {
    last: Vec<(View, NanoMoment)>,
}

impl Hearing {
    /// Everybody counts as just heard.
    pub(super) fn new(validators: usize, view: View, now: NanoMoment) -> Hearing {
        Hearing { last: vec![(view, now); validators] }
    }

    fn note(&mut self, signer: ValidatorIndex, view: View, now: NanoMoment) {
        // A certificate of long ago, sent again, says nothing of today.
        if let Some(last) = self.last.get_mut(signer.as_usize()).filter(|(newest, _)| view >= *newest) {
            *last = (view, now.max(last.1));
        }
    }

    fn is_silent(&self, signer: ValidatorIndex, view: View, now: NanoMoment, delta_ns: u64) -> bool {
        self.last.get(signer.as_usize()).is_some_and(|(last_view, last_at)| {
            last_view.0.saturating_add(SILENT_VIEWS) < view.0
                && last_at.saturating_add(delta_ns.saturating_mul(SILENT_DELTAS)) <= now
        })
    }
}

impl Machine {
    /// A vote or proposal of `signer` for `view` came in; it need not be verified.
    pub fn heard(&mut self, signer: ValidatorIndex, view: View, now: NanoMoment) {
        // An absurd view would make its sender count as heard for ever.
        let view = View(view.0.min(self.current.0.saturating_add(VIEW_HORIZON)));
        self.hearing.note(signer, view, now);
    }

    /// Whether nothing has been heard of a validator for a while, though the chain went on.
    #[must_use]
    pub fn is_silent(&self, validator: ValidatorIndex) -> bool {
        Some(validator) != self.config.own_index
            && self.hearing.is_silent(validator, self.current, self.now, self.config.delta_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA_NS: u64 = 100;

    fn silent(hearing: &Hearing, view: u64, now: u128) -> bool {
        hearing.is_silent(ValidatorIndex(0), View(view), NanoMoment(now), DELTA_NS)
    }

    #[test]
    fn silence_takes_views_and_time() {
        let mut hearing = Hearing::new(2, View(10), NanoMoment(1_000));
        assert!(!silent(&hearing, 12, 9_999), "the views may come quickly");
        assert!(!silent(&hearing, 99, 1_199), "an idle chain has long views");
        assert!(silent(&hearing, 13, 1_200));
        hearing.note(ValidatorIndex(0), View(9), NanoMoment(1_200));
        assert!(silent(&hearing, 13, 1_200), "what is old and comes again shows no life");
        hearing.note(ValidatorIndex(0), View(12), NanoMoment(1_200));
        assert!(!silent(&hearing, 13, 1_200));
        hearing.note(ValidatorIndex(7), View(12), NanoMoment(1_200));
    }
}
