//! Which fault comes when: in turn at fixed times, or at random moments that follow from a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This validator is killed with SIGKILL.
    Kill(usize),
    /// These validators are cut off from the others and from the load client, together.
    Cut(Vec<usize>),
}

impl Fault {
    /// The validators that are away meanwhile.
    #[must_use]
    pub fn away(&self) -> &[usize] {
        match self {
            Fault::Kill(index) => std::slice::from_ref(index),
            Fault::Cut(half) => half,
        }
    }
}

/// How often what goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// From one kill to the next.
    pub kill_every: Option<Duration>,
    /// From one cut of the network to the next.
    pub cut_every: Option<Duration>,
    /// Random moments, lengths and validators by this seed; without it each in turn, half of the time.
    pub seed: Option<u64>,
    /// How long after the start nothing goes wrong any more; without it, never.
    pub until: Option<Duration>,
}

/// One fault and its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Until it begins, from the end of the one before.
    pub pause: Duration,
    /// What.
    pub fault: Fault,
    /// How long it lasts.
    pub lasts: Duration,
}

/// The faults one after the other, without an end. Only one is there at a time: more would stop a chain that tolerates one.
pub struct Schedule {
    validators: usize,
    kinds: Vec<(bool, Duration)>,
    rng: Option<StdRng>,
    count: usize,
}

impl Schedule {
    /// The faults of a network of this many validators.
    #[must_use]
    pub fn new(faults: &Faults, validators: usize) -> Schedule {
        let kills = faults.kill_every.map(|every| (true, every));
        let cuts = faults.cut_every.map(|every| (false, every));
        let rng = faults.seed.map(StdRng::seed_from_u64);
        Schedule { validators, kinds: kills.into_iter().chain(cuts).collect(), rng, count: 0 }
    }

    fn half(&mut self) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.validators).collect();
        if let Some(rng) = &mut self.rng {
            for place in (1..all.len()).rev() {
                all.swap(place, rng.random_range(0..=place));
            }
        }
        let mut half = all.split_off(self.validators.div_ceil(2));
        half.sort_unstable();
        half
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let (kill, every) = *self.kinds.get(self.count % self.kinds.len().max(1))?;
        let turn = self.count / self.kinds.len();
        self.count += 1;
        let half = every / 2;
        let (pause, lasts, victim) = match &mut self.rng {
            None => (every - half, half, turn % self.validators),
            Some(rng) => {
                let (pause, lasts) = (rng.random_range(0.25..1.75), rng.random_range(0.05..1.5));
                (half.mul_f64(pause), half.mul_f64(lasts), rng.random_range(0..self.validators))
            }
        };
        let fault = if kill { Fault::Kill(victim) } else { Fault::Cut(self.half()) };
        Some(Step { pause, fault, lasts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(8);

    fn faults(seed: Option<u64>) -> Faults {
        Faults { kill_every: Some(EVERY), cut_every: Some(EVERY / 2), seed, until: None }
    }

    #[test]
    fn in_turn_without_a_seed() {
        let steps: Vec<Step> = Schedule::new(&faults(None), 4).take(4).collect();
        let kill = |index| Step { pause: EVERY / 2, fault: Fault::Kill(index), lasts: EVERY / 2 };
        let cut = Step { pause: EVERY / 4, fault: Fault::Cut(vec![2, 3]), lasts: EVERY / 4 };
        assert_eq!(steps, [kill(0), cut.clone(), kill(1), cut]);
        let no_cuts = Faults { cut_every: None, ..faults(None) };
        let killed: Vec<Fault> = Schedule::new(&no_cuts, 4).take(5).map(|step| step.fault).collect();
        assert_eq!(killed, [0, 1, 2, 3, 0].map(Fault::Kill));
    }

    #[test]
    fn a_seed_gives_the_same_faults_twice_and_every_validator_a_turn() {
        let of = |seed| Schedule::new(&faults(Some(seed)), 5).take(200).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let away = |index: usize, kill: bool| {
            of(7).iter().any(|step| {
                matches!(step.fault, Fault::Kill(_)) == kill && step.fault.away().contains(&index)
            })
        };
        assert!((0..5).all(|index| away(index, true) && away(index, false)));
        assert!(of(7).iter().all(|step| step.fault.away().len() <= 2 && step.lasts <= EVERY.mul_f64(0.75)));
    }
}
