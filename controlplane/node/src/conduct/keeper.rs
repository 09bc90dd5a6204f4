//! Adds up what peers are refused for, and bans and readmits as the scores say. A task beside the handshakes.

use super::{Conduct, PeerConduct};
use crate::chain::Chain;
use roko_peers::tls::Log;
use roko_peers::{Banning, Membership, Offence, Role, ScoreConfig, Scores, Verdict};
use roko_pipeline::by_peer::PeerMetrics;
use roko_wire::vote::Bitmap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// How often counters are read: what a liar can send until then is bounded by its rates.
const INTERVAL: Duration = Duration::from_millis(50);
/// Between two lines about one peer, milliseconds.
const LOG_INTERVAL_MS: u64 = 1_000;

/// What a keeper is made of.
pub struct KeeperParts {
    /// What is noted, and where the outcome is shown.
    pub conduct: Arc<Conduct>,
    /// Counters by peer of the data plane's stages.
    pub stages: Vec<Arc<PeerMetrics>>,
    /// What bans and readmits.
    pub banning: Banning,
    /// Settings.
    pub config: ScoreConfig,
    /// Where bans are told.
    pub log: Log,
}

/// A node's keeper. It ends when this is dropped; who is banned then stays banned.
pub struct Keeper {
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Begins to keep scores.
    #[must_use]
    pub fn start(parts: KeeperParts, chain: &Chain, runtime: &Handle) -> Keeper {
        let mut book = Book::new(parts, chain);
        let task = runtime.spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                book.tick();
            }
        });
        Keeper { task: task.abort_handle() }
    }
}

/// What is known of one peer between two ticks.
#[derive(Clone, Debug, Default)]
struct Account {
    counted: [u64; Offence::COUNT],
    /// The counts when it was last banned or readmitted: what a line about it tells is newer.
    told: [u64; Offence::COUNT],
    bans: u64,
    withheld: u64,
    line_at_ms: u64,
}

struct Book {
    parts: KeeperParts,
    /// For each stage's counters, which offences they are.
    columns: Vec<Vec<Option<Offence>>>,
    scores: Scores,
    accounts: Vec<Account>,
    unheard: Bitmap,
    began: Instant,
}

impl Book {
    fn new(parts: KeeperParts, chain: &Chain) -> Book {
        let tls = parts.banning.tls();
        let stake = |role: Role| match role {
            Role::Validator(index) => chain.set.stake(index),
            Role::Client => 0,
        };
        let stakes: Vec<u64> = tls.members().peers().iter().map(|peer| stake(peer.role)).collect();
        let columns = parts
            .stages
            .iter()
            .map(|stage| stage.labels().iter().map(|label| Offence::from_label(label)).collect())
            .collect();
        Book {
            columns,
            scores: Scores::new(parts.config, &stakes, tls.own_slot(), chain.quorums.byzantine),
            accounts: vec![Account::default(); stakes.len()],
            unheard: Bitmap::default(),
            began: Instant::now(),
            parts,
        }
    }

    fn tick(&mut self) {
        let now_ms = self.began.elapsed().as_millis() as u64;
        for slot in 0..self.accounts.len() {
            let totals = self.totals(slot);
            for offence in Offence::ALL {
                let (total, counted) =
                    (totals[*offence as usize], &mut self.accounts[slot].counted[*offence as usize]);
                let more = total.saturating_sub(std::mem::replace(counted, total));
                if more > 0 {
                    self.scores.note(slot, *offence, more, now_ms);
                }
            }
        }
        for verdict in self.scores.judge(now_ms) {
            self.carry_out(verdict, now_ms);
        }
        let unheard = self.unheard();
        if unheard != self.unheard {
            self.parts.conduct.set_unheard(unheard);
            self.unheard = unheard;
        }
        self.show(now_ms);
    }

    /// Everything that the peer in `slot` was refused for, wherever it was counted.
    fn totals(&self, slot: usize) -> [u64; Offence::COUNT] {
        let mut totals = [0u64; Offence::COUNT];
        for (stage, columns) in self.parts.stages.iter().zip(&self.columns) {
            for (label, offence) in columns.iter().enumerate() {
                if let Some(offence) = offence {
                    totals[*offence as usize] += stage.value(slot, label);
                }
            }
        }
        for offence in Offence::ALL {
            totals[*offence as usize] += self.parts.conduct.noted(slot, *offence);
        }
        totals[Offence::BadLinkMessage as usize] += self.parts.banning.tls().bad_messages(slot);
        totals
    }

    fn carry_out(&mut self, verdict: Verdict, now_ms: u64) {
        match verdict {
            Verdict::Ban { slot, for_ms } => {
                self.accounts[slot].bans += 1;
                self.parts.banning.ban(slot);
                let seconds = for_ms as f64 / 1e3;
                self.say(slot, now_ms, |why| {
                    format!("is banned for {seconds} s: {why}. Its votes still count when others bring them")
                });
            }
            Verdict::Withhold { slot } => {
                self.accounts[slot].withheld += 1;
                self.say(slot, now_ms, |why| {
                    format!(
                        "deserves a ban ({why}), and gets none: bans are off, or the rest would be no quorum"
                    )
                });
            }
            Verdict::Readmit { slot } => {
                self.parts.banning.readmit(slot);
                self.accounts[slot].told = self.accounts[slot].counted;
            }
        }
    }

    /// Tells something about a peer with its offences since it was last in, at most a line a second.
    fn say(&mut self, slot: usize, now_ms: u64, line: impl FnOnce(&str) -> String) {
        let account = &mut self.accounts[slot];
        if now_ms < account.line_at_ms {
            return;
        }
        account.line_at_ms = now_ms + LOG_INTERVAL_MS;
        let mut why = String::new();
        for offence in Offence::ALL {
            let count = account.counted[*offence as usize] - account.told[*offence as usize];
            if count > 0 && offence.weight() > 0 {
                // Writing to a String cannot fail.
                let _ = write!(why, "{}{} {count}", if why.is_empty() { "" } else { ", " }, offence.label());
            }
        }
        account.told = account.counted;
        (self.parts.log)(&format!("peer {} {}", self.name(slot), line(&why)));
    }

    fn members(&self) -> &Membership {
        self.parts.banning.tls().members()
    }

    fn name(&self, slot: usize) -> String {
        let peer = &self.members().peers()[slot];
        match peer.role {
            Role::Validator(index) => format!("validator {}", index.0),
            Role::Client => format!("{:#06x}", peer.index),
        }
    }

    /// The validators whose views are not waited for.
    fn unheard(&self) -> Bitmap {
        let mut unheard = Bitmap::default();
        for slot in self.scores.unheard(&self.parts.banning.lost()) {
            if let Role::Validator(index) = self.members().peers()[slot].role {
                unheard.insert(index);
            }
        }
        unheard
    }

    fn show(&self, now_ms: u64) {
        let of = |(slot, account): (usize, &Account)| {
            let counts =
                Offence::ALL.iter().map(|offence| (offence.label(), account.counted[*offence as usize]));
            let offences: std::collections::BTreeMap<String, u64> = counts
                .filter(|(_, count)| *count > 0)
                .map(|(label, count)| (label.to_owned(), count))
                .collect();
            let index = self.members().peers()[slot].index;
            (!offences.is_empty()).then(|| PeerConduct {
                index,
                score_permille: self.scores.permille(slot, now_ms),
                banned_for_ms: self.scores.banned_for_ms(slot, now_ms),
                bans: account.bans,
                withheld: account.withheld,
                offences,
            })
        };
        self.parts.conduct.show(self.accounts.iter().enumerate().filter_map(of).collect());
    }
}
