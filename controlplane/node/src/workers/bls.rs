//! The BLS worker: signing and pairing checks, off the poll cores and off the control thread.
//!
//! A pairing check takes about a millisecond, so the control thread hands over whole batches and goes on. Signing
//! has a queue of its own and is served first: a vote that waits behind a check delays finality.

use crate::wake::Waker;
use crossbeam::channel::{Receiver, Sender, bounded, select_biased};
use roko_consensus::bls::SecretKey;
use roko_consensus::collector::{Job, JobResult};
use roko_consensus::quorum::Quorums;
use roko_consensus::set::ValidatorSet;
use roko_consensus::verify::{VerifiedCertificate, VerifiedVote, verify_certificate};
use roko_wire::BlockId;
use roko_wire::vote::{Ballot, Certificate, SigningDomain};
use roko_wire::{ValidatorIndex, View};
use std::sync::Arc;

/// What the worker needs once.
pub struct BlsContext {
    /// Chain and epoch of every signature.
    pub domain: SigningDomain,
    /// The epoch's validators.
    pub set: Arc<ValidatorSet>,
    /// Its thresholds.
    pub quorums: Quorums,
    /// The voting key and its place in the set; `None` for a node that only follows.
    pub key: Option<(SecretKey, ValidatorIndex)>,
}

/// A check for the worker.
#[derive(Debug)]
pub enum Check {
    /// What the collector gathered.
    Gathered(Job),
    /// The certificates that justify a proposal: all must hold.
    Justification {
        /// The proposed block.
        block: BlockId,
        /// Its certificates.
        certificates: Vec<Certificate>,
    },
}

/// What the worker found.
#[derive(Debug)]
// It lives in one slot of a short queue; a box would only be unpacked again.
#[allow(clippy::large_enum_variant)]
pub enum BlsDone {
    /// An own ballot, signed.
    Signed(VerifiedVote),
    /// What the collector gathered, checked.
    Gathered(JobResult),
    /// A proposal's certificates, when all hold.
    Justification {
        /// The proposed block.
        block: BlockId,
        /// Its certificates; `None` when one does not hold.
        verified: Option<Vec<VerifiedCertificate>>,
    },
}

/// The control thread's ends of the worker's queues. Dropping it ends the worker.
pub struct BlsWorker {
    sign: Sender<(View, Ballot)>,
    check: Sender<Check>,
    done: Receiver<BlsDone>,
    checks_running: usize,
}

/// Own ballots that may wait: two a view, and views open at once are few.
const SIGN_QUEUE: usize = 64;

impl BlsWorker {
    /// Starts the worker's thread. `start` is called first on it, to name and pin it.
    pub fn spawn(
        context: BlsContext,
        waker: Arc<Waker>,
        start: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<BlsWorker> {
        let (sign, sign_in) = bounded(SIGN_QUEUE);
        let (check, check_in) = bounded(1);
        let (done_out, done) = bounded(SIGN_QUEUE + 2);
        std::thread::Builder::new().name("bls".into()).spawn(move || {
            start();
            run(&context, &sign_in, &check_in, &done_out, &waker);
        })?;
        Ok(BlsWorker { sign, check, done, checks_running: 0 })
    }

    /// Queues a ballot for signing; false when the queue is full, which the next resend mends.
    pub fn sign(&self, view: View, ballot: Ballot) -> bool {
        self.sign.try_send((view, ballot)).is_ok()
    }

    /// Whether a check can be handed over now. One runs at a time, so that what comes in meanwhile makes one batch.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.checks_running == 0
    }

    /// Hands over a check; call only when [`BlsWorker::is_free`].
    pub fn check(&mut self, check: Check) {
        if self.check.try_send(check).is_ok() {
            self.checks_running += 1;
        }
    }

    /// The next finished piece of work.
    pub fn poll(&mut self) -> Option<BlsDone> {
        let done = self.done.try_recv().ok()?;
        if !matches!(done, BlsDone::Signed(_)) {
            self.checks_running -= 1;
        }
        Some(done)
    }
}

fn run(
    context: &BlsContext,
    sign: &Receiver<(View, Ballot)>,
    check: &Receiver<Check>,
    done: &Sender<BlsDone>,
    waker: &Waker,
) {
    loop {
        let result = select_biased! {
            recv(sign) -> job => match (job, &context.key) {
                (Ok((view, ballot)), Some((key, index))) =>
                    BlsDone::Signed(VerifiedVote::sign(context.domain, key, *index, view, ballot)),
                (Ok(_), None) => continue,
                (Err(_), _) => return,
            },
            recv(check) -> job => match job {
                Ok(job) => carry_out(context, job),
                Err(_) => return,
            },
        };
        if done.send(result).is_err() {
            return;
        }
        waker.wake();
    }
}

fn carry_out(context: &BlsContext, job: Check) -> BlsDone {
    let BlsContext { domain, set, quorums, .. } = context;
    match job {
        Check::Gathered(job) => BlsDone::Gathered(job.run(*domain, set, quorums)),
        Check::Justification { block, certificates } => {
            let verified = certificates
                .into_iter()
                .map(|certificate| verify_certificate(certificate, *domain, set, quorums).ok())
                .collect();
            BlsDone::Justification { block, verified }
        }
    }
}
