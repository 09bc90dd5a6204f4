//! What a simulated cluster is made of, and what is done to it.

use crate::roles::Role;
use roko_consensus::{Preset, Quorums};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) stakes: Vec<u64>,
    pub(crate) quorums: Quorums,
    pub(crate) roles: Vec<Role>,
    pub(crate) loss_percent: u64,
    pub(crate) delay_us_max: u64,
    pub(crate) crashes: bool,
    pub(crate) busy: bool,
    pub(crate) traced: bool,
    pub(crate) chaos_ms: u64,
}

impl Setup {
    pub(crate) fn new(stakes: &[u64]) -> Setup {
        let total = stakes.iter().sum();
        Setup {
            stakes: stakes.to_vec(),
            quorums: Quorums::from_preset(Preset::Classic, total).unwrap(),
            roles: vec![Role::Honest; stakes.len()],
            loss_percent: 0,
            delay_us_max: 150,
            crashes: false,
            busy: false,
            traced: false,
            chaos_ms: 350,
        }
    }

    pub(crate) fn fast(mut self) -> Setup {
        self.quorums = Quorums::from_preset(Preset::Fast, self.stakes.iter().sum()).unwrap();
        self
    }

    pub(crate) fn lossy(mut self) -> Setup {
        (self.loss_percent, self.delay_us_max, self.crashes, self.busy) = (15, 25_000, true, true);
        self
    }

    pub(crate) fn role(mut self, index: usize, role: Role) -> Setup {
        self.roles[index] = role;
        self
    }

    pub(crate) fn busy(mut self) -> Setup {
        self.busy = true;
        self
    }

    pub(crate) fn traced(mut self) -> Setup {
        self.traced = true;
        self
    }
}
