//! What a peer answers for, and when it is not listened to any more: pure, time comes as an argument.
//!
//! Every refusal that is certainly its sender's doing adds points to the sender's score, and the score halves every
//! [`ScoreConfig::half_life_ms`]. At [`LIMIT`] the peer is banned for a while: longer each time, and with half the limit left
//! when it comes back, so that who goes on is gone again soon. Until that has halved once more it is *on probation*: its
//! frames are listened to, and nobody waits for the views that it leads.
//!
//! A score decides whom this node listens to, and nothing else. A vote counts by its own signature whoever brings it, so
//! the votes of a banned validator that others pass on, and certificates that hold them, count as before: no threshold
//! is ever reached or missed by an opinion of one node. And what is banned at a time never weighs more stake than may be
//! Byzantine: the rest is a quorum, so a node whose bans are all wrong still follows and still votes. A ban that would go
//! beyond it is withheld, and the score only reports.
//!
//! Memory is one place for each member; strangers have none, for nothing of them gets so far.

/// A weight that one offence fills the limit with.
pub const LIMIT: u64 = 1_000_000;

/// What is left when a ban is over, and below which probation is.
const READMITTED: u64 = LIMIT / 2;
const PROBATION: u64 = READMITTED / 2;

/// Broken rules that anyone can prove: one is enough, no fault short of a lost disk explains it, and for that there is
/// `roko repair`.
const PROOF: u64 = LIMIT;
/// What no honest program sends, whatever its network, clock or disk does: it checks the same before it sends. Ten
/// within the half-life, so that a single flipped bit in a sender's memory is no reason.
const LIE: u64 = LIMIT / 10;
/// What a member passes on for somebody else, or what only a clock that is off by far can cause: a hundred.
const CARELESS: u64 = LIMIT / 100;
/// Too much of what is lawful: a thousand, as an honest node that was away asks in bursts.
const GREEDY: u64 = LIMIT / 1_000;
/// A frame over the rate that a peer has: twenty thousand, as many as its burst holds, so that what a network holds
/// back for a moment and then lets go at once is no reason.
const FLOOD: u64 = LIMIT / 20_000;
/// What lag, a restart, a slow clock or a third party causes: counted and shown, never held against anyone.
const NOTHING: u64 = 0;

/// Makes the enum, its labels and weights.
macro_rules! offences {
    ($( $(#[doc = $doc:literal])+ $name:ident = $label:literal, $weight:expr; )+) => {
        /// What a peer is refused for, when the frame or stream proves that it was the peer.
        ///
        /// Replays and seals that do not verify are not among them: whoever overhears a frame can send it again, or a
        /// forged one under its header, so they accuse nobody.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Offence {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl Offence {
            /// All of them.
            pub const ALL: &[Offence] = &[$(Offence::$name),+];

            /// How many there are.
            pub const COUNT: usize = Offence::ALL.len();

            /// Its label in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Offence::$name => $label,)+ }
            }

            /// What one adds to the score.
            #[must_use]
            pub const fn weight(self) -> u64 {
                match self { $(Offence::$name => $weight,)+ }
            }

            /// The offence of a label.
            #[must_use]
            pub fn from_label(label: &str) -> Option<Offence> {
                Offence::ALL.iter().copied().find(|offence| offence.label() == label)
            }
        }
    };
}

offences! {
    /// An authentic frame whose first byte names no message. A new kind comes with a new protocol name.
    UnknownKind = "unknown_kind", LIE;
    /// A message that only validators send, from somebody else.
    WrongRole = "wrong_role", LIE;
    /// A batch of another validator's stamps.
    WrongIngress = "wrong_ingress", LIE;
    /// Consensus messages over the peer's rate.
    OverRate = "over_rate", FLOOD;
    /// A message that is not what its first byte says.
    BadMessage = "bad_message", LIE;
    /// A stamp batch whose root is not signed by its validator.
    BadRoot = "bad_root", LIE;
    /// A stamped transaction that breaks the chain's rules or has a wrong signature: who stamps one checks it first.
    BadTransaction = "bad_transaction", LIE;
    /// The same in a submission: a member may pass on what its users give it.
    BadSubmission = "bad_submission", CARELESS;
    /// A stamp more than an hour off this node's clock.
    AbsurdStamp = "absurd_stamp", CARELESS;
    /// A stamp outside the window that genesis allows: a busy host or a slow network does that.
    ImplausibleStamp = "implausible_stamp", NOTHING;
    /// A view that no chain of this age can have reached.
    AbsurdView = "absurd_view", LIE;
    /// A view beyond those that are kept: this node may be the one that is behind.
    FarAhead = "far_ahead", NOTHING;
    /// A vote of nobody in the set, or one whose signature does not hold.
    BadVote = "bad_vote", LIE;
    /// A certificate of too little stake, of nobody in the set, or whose signature does not hold.
    BadCertificate = "bad_certificate", LIE;
    /// A proposal of the wrong leader, chain or size, or whose signature or justification does not hold.
    BadProposal = "bad_proposal", LIE;
    /// A chunk that is not its block's, or whose proposer did not sign it.
    BadChunk = "bad_chunk", LIE;
    /// A signed block whose payload breaks a rule.
    InvalidBlock = "invalid_block", LIE;
    /// A block whose time lies outside this node's window.
    UntimelyBlock = "untimely_block", NOTHING;
    /// Two votes or two proposals that exclude each other, each with its signature.
    Equivocation = "equivocation", PROOF;
    /// More questions for blocks and certificates than a peer may ask.
    PullOverBudget = "pull_over_budget", GREEDY;
    /// A message on the session's connection that makes no sense.
    BadLinkMessage = "bad_link_message", LIE;
    /// A question on a catch-up stream that is none.
    BadSyncQuestion = "bad_sync_question", LIE;
    /// An answer on a catch-up stream that does not hold.
    BadSyncAnswer = "bad_sync_answer", LIE;
}

/// Settings of scores and bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreConfig {
    /// Ban peers; without it scores only report.
    pub bans: bool,
    /// In which a score halves, milliseconds.
    pub half_life_ms: u64,
    /// Length of a peer's first ban, milliseconds; each further one is twice as long.
    pub ban_ms: u64,
    /// Length of the longest, milliseconds; as long without a ban takes one back.
    pub ban_ms_max: u64,
}

impl Default for ScoreConfig {
    fn default() -> Self {
        ScoreConfig { bans: true, half_life_ms: 30_000, ban_ms: 60_000, ban_ms_max: 3_600_000 }
    }
}

/// What is to be done about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stop listening to it for so many milliseconds.
    Ban {
        /// Its slot.
        slot: usize,
        /// How long.
        for_ms: u64,
    },
    /// It deserves a ban, and the stake that is banned already does not allow another, or bans are off.
    Withhold {
        /// Its slot.
        slot: usize,
    },
    /// Its ban is over.
    Readmit {
        /// Its slot.
        slot: usize,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    stake: u64,
    score: u64,
    /// When `score` was that, milliseconds.
    at_ms: u64,
    banned_until_ms: Option<u64>,
    /// Bans that are not forgotten.
    bans: u32,
    /// When the last ban ended, or was forgotten.
    since_ms: u64,
    withheld: bool,
    /// Since its last ban its score was never below [`PROBATION`].
    on_probation: bool,
}

/// Everybody's scores.
#[derive(Debug)]
pub struct Scores {
    config: ScoreConfig,
    places: Box<[Place]>,
    own_slot: usize,
    banned_stake_max: u64,
}

/// `score` after `elapsed_ms`: exact at whole half-lives, on a straight line between them.
fn decayed(score: u64, elapsed_ms: u64, half_life_ms: u64) -> u64 {
    let half_life_ms = half_life_ms.max(1);
    let halvings = elapsed_ms / half_life_ms;
    if halvings >= u64::from(u64::BITS) {
        return 0;
    }
    let score = score >> halvings;
    let part = u128::from(score) * u128::from(elapsed_ms % half_life_ms) / (2 * u128::from(half_life_ms));
    score - part as u64
}

impl Scores {
    /// Scores of members with these stakes, none for those without; `banned_stake_max` is what may be Byzantine.
    #[must_use]
    pub fn new(config: ScoreConfig, stakes: &[u64], own_slot: usize, banned_stake_max: u64) -> Scores {
        let places = stakes.iter().map(|stake| Place { stake: *stake, ..Place::default() }).collect();
        Scores { config, places, own_slot, banned_stake_max }
    }

    /// Adds `count` offences of the peer in `slot`. The node itself, and who is banned already, gets no points.
    pub fn note(&mut self, slot: usize, offence: Offence, count: u64, now_ms: u64) {
        let half_life_ms = self.config.half_life_ms;
        let Some(place) = self.places.get_mut(slot).filter(|_| slot != self.own_slot) else { return };
        if place.banned_until_ms.is_some() {
            return;
        }
        place.settle(now_ms, half_life_ms);
        // Beyond the limit more says nothing, and a flood must not be remembered for days.
        let points = offence.weight().saturating_mul(count);
        place.score = place.score.saturating_add(points).min(2 * LIMIT);
    }

    /// What follows at `now_ms`: ends of bans first, so that the stake they held is free for others.
    pub fn judge(&mut self, now_ms: u64) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (slot, place) in self.places.iter_mut().enumerate() {
            if place.banned_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
                place.banned_until_ms = None;
                (place.score, place.at_ms, place.since_ms) = (READMITTED, now_ms, now_ms);
                place.on_probation = true;
                verdicts.push(Verdict::Readmit { slot });
            }
        }
        for slot in 0..self.places.len() {
            let config = self.config;
            let free = self.banned_stake_max.saturating_sub(self.banned_stake());
            let place = &mut self.places[slot];
            if place.banned_until_ms.is_some() || place.score == 0 {
                continue;
            }
            place.settle(now_ms, config.half_life_ms);
            place.on_probation &= place.score > PROBATION;
            if place.score < LIMIT {
                place.withheld = false;
            } else if config.bans && place.stake <= free {
                let for_ms = place.ban(now_ms, &config);
                verdicts.push(Verdict::Ban { slot, for_ms });
            } else if !std::mem::replace(&mut place.withheld, true) {
                verdicts.push(Verdict::Withhold { slot });
            }
        }
        verdicts
    }

    /// Stake of all who are banned.
    #[must_use]
    pub fn banned_stake(&self) -> u64 {
        let banned = self.places.iter().filter(|place| place.banned_until_ms.is_some());
        banned.fold(0, |sum, place| sum.saturating_add(place.stake))
    }

    /// Whose views are not to be waited for, by slot: who is banned, and who is on probation or `lost`, as far as all of them
    /// together weigh no more than may be Byzantine.
    #[must_use]
    pub fn unheard(&self, lost: &[usize]) -> Vec<usize> {
        let mut stake = self.banned_stake();
        let mut slots = Vec::new();
        for (slot, place) in self.places.iter().enumerate() {
            let sum = stake.saturating_add(place.stake);
            match (place.banned_until_ms, place.on_probation || lost.contains(&slot)) {
                (Some(_), _) => slots.push(slot),
                (None, true) if sum <= self.banned_stake_max => {
                    stake = sum;
                    slots.push(slot);
                }
                _ => {}
            }
        }
        slots
    }

    /// The score of the peer in `slot` at `now_ms`, in thousandths of the limit.
    #[must_use]
    pub fn permille(&self, slot: usize, now_ms: u64) -> u64 {
        let place = self.places.get(slot).copied().unwrap_or_default();
        let elapsed_ms = now_ms.saturating_sub(place.at_ms);
        decayed(place.score, elapsed_ms, self.config.half_life_ms) * 1_000 / LIMIT
    }

    /// How long the peer in `slot` is still banned at `now_ms`, milliseconds; `None` when it is not.
    #[must_use]
    pub fn banned_for_ms(&self, slot: usize, now_ms: u64) -> Option<u64> {
        let until_ms = self.places.get(slot)?.banned_until_ms?;
        Some(until_ms.saturating_sub(now_ms))
    }
}

impl Place {
    fn settle(&mut self, now_ms: u64, half_life_ms: u64) {
        // Time that goes back changes nothing.
        if now_ms > self.at_ms {
            self.score = decayed(self.score, now_ms - self.at_ms, half_life_ms);
            self.at_ms = now_ms;
        }
    }

    fn ban(&mut self, now_ms: u64, config: &ScoreConfig) -> u64 {
        let forgotten = now_ms.saturating_sub(self.since_ms) / config.ban_ms_max.max(1);
        self.bans = self.bans.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        let doubled = 1u64.checked_shl(self.bans).unwrap_or(u64::MAX);
        let for_ms = config.ban_ms.saturating_mul(doubled).min(config.ban_ms_max.max(config.ban_ms));
        self.bans = self.bans.saturating_add(1);
        self.banned_until_ms = Some(now_ms.saturating_add(for_ms));
        self.withheld = false;
        for_ms
    }
}

#[cfg(test)]
#[path = "score_tests.rs"]
mod tests;
