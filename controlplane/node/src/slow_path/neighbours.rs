//! Which Ethernet address a next hop has: asked for, confirmed every half a minute, and forgotten when nobody answers.
//!
//! Pure: time comes as an argument, questions go out as values. The rules are those of RFC 4861, 7.3, for ARP as well. A
//! claim that nobody asked for moves nothing: it only has the address asked about again, the known holder first.

use core::net::IpAddr;
use roko_wire::net::Mac;

/// How long an answer holds, milliseconds (RFC 4861, 10: REACHABLE_TIME).
pub(super) const REACHABLE_MS: u64 = 30_000;
/// Between two questions, milliseconds (RFC 4861, 10: RETRANS_TIMER).
pub(super) const RETRANS_MS: u64 = 1_000;
/// Questions to the known holder, before everybody is asked (RFC 4861, 10: MAX_UNICAST_SOLICIT).
const TO_HOLDER: u32 = 3;
/// Questions to everybody before the address is forgotten (RFC 4861, 10: MAX_MULTICAST_SOLICIT).
const TO_ALL: u32 = 3;
/// Longest pause between questions about a host that does not answer, milliseconds: it is found as soon after it starts.
const RETRANS_MS_MAX: u64 = 8_000;

/// A question to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Whose address is asked for.
    pub ip: IpAddr,
    /// The known holder; `None` asks everybody.
    pub to: Option<Mac>,
}

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    ip: IpAddr,
    mac: Option<Mac>,
    /// Given by the configuration: never asked for.
    fixed: bool,
    /// Questions since the last answer.
    asked: u32,
    /// When it is asked about next, milliseconds.
    ask_at: u64,
}

/// The next hops of this node's peers.
#[derive(Debug)]
pub(super) struct Neighbours {
    entries: Vec<Neighbour>,
    most: usize,
}

impl Neighbours {
    /// At most `most` of them beside those in `fixed`, which the configuration gives.
    #[must_use]
    pub(super) fn new(most: usize, fixed: &[(IpAddr, Mac)]) -> Neighbours {
        let given = |(ip, mac): &(IpAddr, Mac)| Neighbour {
            ip: *ip,
            mac: Some(*mac),
            fixed: true,
            asked: 0,
            ask_at: u64::MAX,
        };
        Neighbours { entries: fixed.iter().map(given).collect(), most: most + fixed.len() }
    }

    /// Begins to ask for `ip`, unless it is known; false when there is no room.
    pub(super) fn want(&mut self, ip: IpAddr, now_ms: u64) -> bool {
        if self.entries.iter().any(|entry| entry.ip == ip) {
            return true;
        }
        if self.entries.len() == self.most {
            return false;
        }
        self.entries.push(Neighbour { ip, mac: None, fixed: false, asked: 0, ask_at: now_ms });
        true
    }

    /// Forgets those that are no next hop any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&IpAddr) -> bool) {
        self.entries.retain(|entry| entry.fixed || wanted(&entry.ip));
    }

    /// The address of `ip`, if it is known.
    #[must_use]
    pub(super) fn mac(&self, ip: &IpAddr) -> Option<Mac> {
        self.entries.iter().find(|entry| entry.ip == *ip)?.mac
    }

    /// How many are known, and how many are asked for in vain so far.
    #[must_use]
    pub(super) fn counts(&self) -> (usize, usize) {
        let known = self.entries.iter().filter(|entry| entry.mac.is_some()).count();
        (known, self.entries.len() - known)
    }

    /// Somebody says that `ip` is at `mac`, as an answer or not. Returns whether the address to use has changed.
    pub(super) fn heard(&mut self, ip: IpAddr, mac: Mac, answer: bool, now_ms: u64) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.ip == ip && !entry.fixed) else {
            return false;
        };
        let asked_holder = entry.mac.is_some() && entry.asked <= TO_HOLDER;
        let believed = match entry.mac {
            None => true,
            Some(known) if known == mac => answer && entry.asked > 0,
            Some(_) => answer && entry.asked > 0 && !asked_holder,
        };
        if believed {
            let changed = entry.mac != Some(mac);
            (entry.mac, entry.asked, entry.ask_at) = (Some(mac), 0, now_ms + REACHABLE_MS);
            return changed;
        }
        // A claim costs one question a while, no more: half the time of an answer has to be over.
        let settled = entry.asked == 0 && entry.ask_at < now_ms + REACHABLE_MS - RETRANS_MS;
        if settled && entry.mac != Some(mac) {
            entry.ask_at = now_ms;
        }
        false
    }

    /// The next question that is due; called until there is none. The second value says that the address was forgotten.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<(Question, bool)> {
        let entry = self.entries.iter_mut().find(|entry| entry.ask_at <= now_ms)?;
        let forgotten = entry.mac.is_some() && entry.asked >= TO_HOLDER + TO_ALL;
        if forgotten {
            (entry.mac, entry.asked) = (None, 0);
        }
        let to = entry.mac.filter(|_| entry.asked < TO_HOLDER);
        entry.asked = entry.asked.saturating_add(1);
        let in_vain = if entry.mac.is_none() { entry.asked.saturating_sub(TO_ALL) } else { 0 };
        entry.ask_at = now_ms + (RETRANS_MS << in_vain.min(3)).min(RETRANS_MS_MAX);
        Some((Question { ip: entry.ip, to }, forgotten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 9));
    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn asked(of: &mut Neighbours, now_ms: u64) -> Option<Option<Mac>> {
        of.due(now_ms).map(|(question, _)| question.to)
    }

    #[test]
    fn an_answer_holds_for_a_while_and_is_then_confirmed_by_its_holder() {
        let mut of = Neighbours::new(4, &[]);
        assert!(of.want(HOP, 0));
        assert_eq!(
            (asked(&mut of, 0), asked(&mut of, 0), asked(&mut of, 1_000)),
            (Some(None), None, Some(None))
        );
        assert!(of.heard(HOP, A, true, 1_001));
        assert_eq!((of.mac(&HOP), asked(&mut of, 31_000)), (Some(A), None));
        assert_eq!(asked(&mut of, 31_001), Some(Some(A)));
        assert!(!of.heard(HOP, A, true, 31_002), "the same address as before");
        assert_eq!(asked(&mut of, 60_000), None);
    }

    #[test]
    fn a_claim_that_nobody_asked_for_moves_nothing_and_has_the_holder_asked() {
        let mut of = Neighbours::new(4, &[]);
        of.want(HOP, 0);
        of.due(0);
        of.heard(HOP, A, true, 1);
        assert!(!of.heard(HOP, B, true, 10_000), "an answer without a question is a claim");
        assert_eq!(of.mac(&HOP), Some(A));
        assert_eq!(asked(&mut of, 10_000), Some(Some(A)), "the holder first");
        assert!(!of.heard(HOP, B, true, 10_001), "the holder was asked, not B");
        assert!(!of.heard(HOP, A, true, 10_002));
        assert!(!of.heard(HOP, B, false, 10_003));
        assert_eq!(
            (of.mac(&HOP), asked(&mut of, 10_500)),
            (Some(A), None),
            "claims do not make a flood of questions"
        );
    }

    #[test]
    fn who_is_gone_is_replaced_by_whoever_answers_everybodys_question() {
        let mut of = Neighbours::new(4, &[]);
        of.want(HOP, 0);
        of.due(0);
        of.heard(HOP, A, true, 0);
        let questions: Vec<_> = (30..36).map(|s| asked(&mut of, s * 1_000)).collect();
        assert_eq!(
            questions,
            [Some(Some(A)), Some(Some(A)), Some(Some(A)), Some(None), Some(None), Some(None)]
        );
        assert_eq!(of.mac(&HOP), Some(A), "it is used until another answers");
        assert!(of.heard(HOP, B, true, 35_001));
        assert_eq!(of.mac(&HOP), Some(B));
    }

    #[test]
    fn who_never_answers_is_forgotten_and_asked_for_ever_more_seldom() {
        let mut of = Neighbours::new(1, &[]);
        of.want(HOP, 0);
        of.due(0);
        of.heard(HOP, A, true, 0);
        let forgotten =
            (30..=36).filter_map(|s| of.due(s * 1_000)).filter(|(_, forgotten)| *forgotten).count();
        assert_eq!((forgotten, of.mac(&HOP), of.counts()), (1, None, (0, 1)));
        let questions = (37..1_037).filter(|s| of.due(s * 1_000).is_some()).count();
        assert!((120..=140).contains(&questions), "{questions} in 1,000 s");
        assert!(of.heard(HOP, B, false, 2_000_000), "nobody is known, so a claim is as good as any");
    }

    #[test]
    fn there_are_no_more_than_were_allowed_and_fixed_ones_stay() {
        let fixed = "fe80::1".parse().expect("an address");
        let mut of = Neighbours::new(1, &[(fixed, B)]);
        assert!(of.want(HOP, 0) && of.want(HOP, 0) && of.want(fixed, 0));
        assert!(!of.want("10.0.0.8".parse().expect("an address"), 0));
        assert!(!of.heard(fixed, A, true, 1));
        of.retain(|_| false);
        assert_eq!((of.mac(&fixed), of.counts()), (Some(B), (1, 0)));
    }
}
