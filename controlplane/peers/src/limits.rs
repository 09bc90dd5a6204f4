//! How many handshakes are let in: pure, time comes as an argument.
//!
//! Anyone can open TCP connections, so before any byte of one is read it passes here: a token bucket for its address
//! (an IPv4 address, an IPv6 /64) in a table of fixed size, and a place among the half-open handshakes, of which an
//! address has a few and all together a fixed number. When places run out, the oldest one that had its fair time gives
//! way: a handshake takes milliseconds and whoever never speaks holds a place no longer than that. Places for members'
//! addresses are apart from those for all others.

use crate::refusal::Refusal;
use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;
use std::collections::hash_map::RandomState;

/// Limits of a node's handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// Handshakes under way at once, of strangers' addresses together and of members' together.
    pub half_open_max: usize,
    /// Of one address.
    pub half_open_per_address_max: usize,
    /// Connections a second from one address, in the long run.
    pub per_address_per_second: u32,
    /// Connections at once from one address.
    pub per_address_burst: u32,
    /// How long a handshake may take, milliseconds.
    pub time_ms_max: u64,
    /// How long a handshake cannot be displaced, milliseconds: several round trips around the world.
    pub fair_ms: u64,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        HandshakeLimits {
            half_open_max: 64,
            half_open_per_address_max: 16,
            per_address_per_second: 20,
            per_address_burst: 64,
            time_ms_max: 5_000,
            fair_ms: 1_000,
        }
    }
}

/// A handshake's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(u64);

#[derive(Clone, Copy, Debug)]
struct HalfOpen {
    place: Place,
    prefix: u64,
    member: bool,
    since_ms: u64,
}

/// Buckets of addresses; addresses whose hashes meet share one.
const BUCKETS: usize = 4_096;

/// Who may begin a handshake.
#[derive(Debug)]
pub struct Admission {
    limits: HandshakeLimits,
    members: Vec<IpAddr>,
    /// In the order in which they came.
    half_open: Vec<HalfOpen>,
    /// When each bucket was or will be full, milliseconds.
    full_at_ms: Box<[u64]>,
    hasher: RandomState,
    next: u64,
}

/// What to do with a connection that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its place, to be given back by [`Admission::release`].
    pub place: Place,
    /// Whose place it takes: that connection is to be closed.
    pub displaces: Option<Place>,
}

impl Admission {
    /// Nobody is in yet. `members` are the addresses at which members' handshakes are expected.
    #[must_use]
    pub fn new(limits: HandshakeLimits, members: Vec<IpAddr>) -> Admission {
        Admission {
            limits,
            members,
            half_open: Vec::with_capacity(2 * limits.half_open_max),
            full_at_ms: vec![0; BUCKETS].into_boxed_slice(),
            hasher: RandomState::new(),
            next: 0,
        }
    }

    fn prefix(&self, ip: IpAddr) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        match ip.to_canonical() {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
        }
        hasher.finish()
    }

    /// Lets a connection from `ip` in at `now_ms`, or says why not.
    pub fn admit(&mut self, ip: IpAddr, now_ms: u64) -> Result<Admitted, Refusal> {
        let prefix = self.prefix(ip);
        let member = self.members.contains(&ip.to_canonical());
        let of_address = self.half_open.iter().filter(|one| one.prefix == prefix).count();
        let of_kind = self.half_open.iter().filter(|one| one.member == member).count();
        let displaces = if of_address >= self.limits.half_open_per_address_max {
            let oldest = self.oldest(now_ms, |one| one.prefix == prefix);
            Some(oldest.ok_or(Refusal::TooManyOfAddress)?)
        } else if of_kind >= self.limits.half_open_max {
            let oldest = self.oldest(now_ms, |one| one.member == member);
            Some(oldest.ok_or(Refusal::TooManyHalfOpen)?)
        } else {
            None
        };
        self.take_token(prefix, now_ms)?;
        if let Some(place) = displaces {
            self.release(place);
        }
        let place = Place(self.next);
        self.next += 1;
        self.half_open.push(HalfOpen { place, prefix, member, since_ms: now_ms });
        Ok(Admitted { place, displaces })
    }

    fn oldest(&self, now_ms: u64, of: impl Fn(&HalfOpen) -> bool) -> Option<Place> {
        let oldest = self.half_open.iter().find(|one| of(one))?;
        (now_ms.saturating_sub(oldest.since_ms) >= self.limits.fair_ms).then_some(oldest.place)
    }

    /// The generic cell rate algorithm (ITU-T I.371), in microseconds.
    fn take_token(&mut self, prefix: u64, now_ms: u64) -> Result<(), Refusal> {
        let now_us = now_ms.saturating_mul(1_000);
        let period_us = 1_000_000 / u64::from(self.limits.per_address_per_second.max(1));
        let place = &mut self.full_at_ms[prefix as usize % BUCKETS];
        let full_at = (*place).max(now_us) + period_us;
        if full_at - now_us > period_us * u64::from(self.limits.per_address_burst.max(1)) {
            return Err(Refusal::TooOften);
        }
        *place = full_at;
        Ok(())
    }

    /// Gives a place back: its handshake is over, whatever became of it.
    pub fn release(&mut self, place: Place) {
        self.half_open.retain(|one| one.place != place);
    }

    /// Handshakes under way.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn limits() -> HandshakeLimits {
        HandshakeLimits {
            half_open_max: 4,
            half_open_per_address_max: 2,
            per_address_per_second: 10,
            per_address_burst: 3,
            ..HandshakeLimits::default()
        }
    }

    #[test]
    fn an_address_has_its_burst_and_its_rate() {
        let mut admission = Admission::new(limits(), Vec::new());
        let mut taken = |now_ms| {
            let let_in =
                |_: &u32| admission.admit(ip(1), now_ms).map(|in_| admission.release(in_.place)).is_ok();
            (0..9u32).filter(let_in).count()
        };
        assert_eq!([taken(1_000), taken(1_099), taken(1_100), taken(9_000)], [3, 0, 1, 3]);
    }

    #[test]
    fn whoever_never_speaks_gives_way_after_a_fair_time() {
        let mut admission = Admission::new(limits(), vec![ip(9)]);
        let silent: Vec<Place> = (0..4).map(|from| admission.admit(ip(from), 0).unwrap().place).collect();
        assert_eq!(admission.admit(ip(7), 999), Err(Refusal::TooManyHalfOpen));
        assert!(admission.admit(ip(9), 999).is_ok(), "a member's address has places of its own");
        assert_eq!(admission.admit(ip(7), 1_000).unwrap().displaces, Some(silent[0]));
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let mut admission = Admission::new(limits(), Vec::new());
        let first = admission.admit(ip(1), 0).unwrap().place;
        assert!(admission.admit(ip(1), 0).is_ok());
        assert_eq!(admission.admit(ip(1), 10), Err(Refusal::TooManyOfAddress));
        assert!(admission.admit(ip(2), 10).unwrap().displaces.is_none());
        assert_eq!(admission.admit(ip(1), 1_000).unwrap().displaces, Some(first), "its own, not another's");
    }

    proptest! {
        #[test]
        fn half_open_handshakes_stay_within_their_limits(
            steps in prop::collection::vec((0u8..6, 0u64..700, any::<bool>()), 1..300)
        ) {
            let limits = limits();
            let mut admission = Admission::new(limits, vec![ip(0)]);
            let (mut now, mut places) = (0, Vec::new());
            for (from, later, ends) in steps {
                now += later;
                if ends && !places.is_empty() {
                    admission.release(places.remove(0));
                }
                if let Ok(in_) = admission.admit(ip(from), now) {
                    places.retain(|place| Some(*place) != in_.displaces);
                    places.push(in_.place);
                }
                prop_assert_eq!(admission.half_open(), places.len());
                prop_assert!(admission.half_open() <= 2 * limits.half_open_max);
            }
        }
    }
}
