//! When a key phase begins and ends: pure, time comes as an argument.
//!
//! ```text
//! sender                       receiver
//!   worn, or old: Rekey(n+1) ─────►  makes key n+1, gives it to the data plane
//!   seals with n+1 ◄───── Ready(n+1)
//!             Switched(n+1) ─────►  after the grace time: forgets key n
//! ```
//! A sender seals with a key only when the receiver has it, and the receiver forgets a key only a while after the sender
//! has stopped using it, so there is no gap. The first phase goes the same way without the question.

/// Times of key phases, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseTimes {
    /// Age at which a phase ends, whatever it has sealed.
    pub rekey_ms: u64,
    /// How long frames of the phase before are still opened: longer than any frame is under way.
    pub grace_ms: u64,
    /// Age at which a session ends and a new handshake makes the next.
    pub session_ms: u64,
}

impl Default for PhaseTimes {
    fn default() -> Self {
        PhaseTimes { rekey_ms: 600_000, grace_ms: 5_000, session_ms: 3_600_000 }
    }
}

/// Phases after which a session ends although it is young: long before the wire's byte runs out.
pub(super) const PHASES_MAX: u8 = 200;

/// The sender's side of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendPhase {
    times: PhaseTimes,
    /// The phase that seals; `None` before the receiver is ready for the first.
    sealing: Option<u8>,
    /// The receiver has been asked for the phase after it.
    asked: bool,
    since_ms: u64,
}

impl SendPhase {
    pub(super) const fn new(times: PhaseTimes, now_ms: u64) -> SendPhase {
        SendPhase { times, sealing: None, asked: true, since_ms: now_ms }
    }

    /// The phase to ask the receiver for, once, when it is time: the key is worn or old.
    pub(super) const fn due(&mut self, worn: bool, now_ms: u64) -> Option<u8> {
        let Some(phase) = self.sealing else { return None };
        let old = now_ms.saturating_sub(self.since_ms) >= self.times.rekey_ms;
        if self.asked || !(worn || old) || phase == u8::MAX {
            return None;
        }
        self.asked = true;
        Some(phase + 1)
    }

    /// The receiver is ready for `phase`: whether that is the one it was asked for, which seals from now on.
    pub(super) fn ready(&mut self, phase: u8, now_ms: u64) -> bool {
        let next = self.sealing.map_or(Some(0), |sealing| sealing.checked_add(1));
        if !self.asked || next != Some(phase) {
            return false;
        }
        (self.sealing, self.asked, self.since_ms) = (Some(phase), false, now_ms);
        true
    }

    pub(super) const fn sealing(&self) -> Option<u8> {
        self.sealing
    }
}

/// The receiver's side of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceivePhase {
    grace_ms: u64,
    newest: u8,
    /// The sender seals with the newest.
    switched: bool,
    /// The phase before it and when it is forgotten.
    retiring: Option<(u8, u64)>,
}

impl ReceivePhase {
    pub(super) const fn new(times: PhaseTimes) -> ReceivePhase {
        ReceivePhase { grace_ms: times.grace_ms, newest: 0, switched: false, retiring: None }
    }

    /// The sender asks for `phase`. `None` when it may not; else what is to be forgotten first, so that a direction never
    /// has more than two keys.
    pub(super) fn asked(&mut self, phase: u8) -> Option<Option<u8>> {
        if !self.switched || self.newest.checked_add(1) != Some(phase) {
            return None;
        }
        (self.newest, self.switched) = (phase, false);
        Some(self.retiring.take().map(|(old, _)| old))
    }

    /// The sender seals with `phase` from now on. False when that makes no sense.
    pub(super) fn switched(&mut self, phase: u8, now_ms: u64) -> bool {
        if self.switched || phase != self.newest {
            return false;
        }
        self.switched = true;
        self.retiring = phase.checked_sub(1).map(|old| (old, now_ms.saturating_add(self.grace_ms)));
        true
    }

    /// The phase that is to be forgotten now.
    pub(super) fn retire(&mut self, now_ms: u64) -> Option<u8> {
        self.retiring.take_if(|(_, at_ms)| *at_ms <= now_ms).map(|(phase, _)| phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMES: PhaseTimes = PhaseTimes { rekey_ms: 1_000, grace_ms: 300, session_ms: 10_000 };

    #[test]
    fn a_phase_ends_by_age_or_wear_and_is_asked_for_once() {
        let mut send = SendPhase::new(TIMES, 0);
        assert_eq!(send.due(true, 5_000), None, "nothing seals yet");
        assert!(send.ready(0, 5_000) && !send.ready(0, 5_000) && !send.ready(1, 5_000));
        assert_eq!(
            (send.due(false, 5_999), send.due(false, 6_000), send.due(true, 6_001)),
            (None, Some(1), None)
        );
        assert!(!send.ready(2, 6_100) && send.ready(1, 6_100));
        assert_eq!(send.due(true, 6_101), Some(2));
    }

    #[test]
    fn a_sender_out_of_turn_is_noticed() {
        let mut receive = ReceivePhase::new(TIMES);
        assert_eq!(receive.asked(1), None, "it has not begun");
        assert!(receive.switched(0, 0) && !receive.switched(0, 0) && !receive.switched(1, 0));
        assert_eq!((receive.asked(2), receive.asked(0), receive.asked(1)), (None, None, Some(None)));
        assert_eq!(receive.asked(2), None, "one at a time");
        assert!(receive.switched(1, 100));
        assert_eq!(receive.asked(2), Some(Some(0)), "a third key makes the first one go at once");
    }

    proptest! {
        /// Messages arrive in order after any delay; frames after at most the grace time.
        #[test]
        fn the_receiver_always_has_the_key_that_a_frame_is_sealed_with(
            steps in prop::collection::vec((0u64..400, any::<bool>(), 0u64..200), 1..400)
        ) {
            let (mut send, mut receive) = (SendPhase::new(TIMES, 0), ReceivePhase::new(TIMES));
            let mut has = vec![0u8];
            let mut to_receiver: Vec<(u64, bool, u8)> = Vec::new();
            let mut to_sender = vec![(0u64, 0u8)];
            let mut frames: Vec<(u64, u8)> = Vec::new();
            let mut now = 0;
            for (later, worn, delay) in steps {
                now += later;
                if let Some(phase) = send.due(worn, now) {
                    to_receiver.push((now + delay, true, phase));
                }
                while to_sender.first().is_some_and(|(at, _)| *at <= now) {
                    let (_, phase) = to_sender.remove(0);
                    prop_assert!(send.ready(phase, now));
                    to_receiver.push((now + delay, false, phase));
                }
                frames.extend(send.sealing().map(|phase| (now + delay, phase)));
                // Messages of a stream keep their order.
                while to_receiver.first().is_some_and(|(at, ..)| *at <= now) {
                    let (_, asks, phase) = to_receiver.remove(0);
                    if asks {
                        // A sender that asks again within the grace time gives the oldest key up itself.
                        let old = receive.asked(phase).expect("the sender is in turn");
                        if let Some(old) = old {
                            has.retain(|kept| *kept != old);
                            frames.retain(|(_, sealed)| *sealed != old);
                        }
                        has.push(phase);
                        to_sender.push((now + delay, phase));
                    } else {
                        prop_assert!(receive.switched(phase, now));
                    }
                }
                for (_, phase) in frames.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
                    prop_assert!(has.contains(&phase), "{phase} of {has:?}");
                }
                // Frames that the test holds back longer than the grace time are those that the step skipped over.
                if let Some(old) = receive.retire(now) {
                    has.retain(|kept| *kept != old);
                    frames.retain(|(_, sealed)| *sealed != old);
                }
                prop_assert!(has.len() <= 3);
            }
        }
    }
}
