//! Checks single transactions: by the rules at once, by their signatures together with others'.

use super::VerifyCounter;
use super::ingress::Checked;
use super::job::Admitted;
use super::recent::Recent;
use super::signatures::Signatures;
use crate::link::Span;
use roko_wire::account::address_of_ed25519;
use roko_wire::rules::{TxRefusal, TxRules};
use roko_wire::stamp::Stamp;
use roko_wire::tx;
use roko_wire::{Address, TxId};

/// See the module.
pub(super) struct Checker {
    rules: TxRules,
    pub(super) recent: Recent,
    pub(super) signatures: Signatures,
}

impl Checker {
    pub(super) fn new(rules: TxRules, recent_txs: usize, checks_max: usize, salt: u64) -> Checker {
        Checker { rules, recent: Recent::new(recent_txs), signatures: Signatures::new(checks_max, salt) }
    }

    /// Everything but the signature that makes a transaction poolable under `stamp`, and the signature's check queued.
    /// Its bytes start at `at` of the frame; `id` is its id.
    pub(super) fn admit(
        &mut self,
        index: usize,
        at: usize,
        wire: &[u8],
        id: TxId,
        stamp: &Stamp,
    ) -> Result<Admitted, VerifyCounter> {
        let parsed = tx::parse(wire).map_err(|_| VerifyCounter::Malformed)?;
        let terms = parsed.terms();
        self.rules.check(&terms, stamp).map_err(|refusal| match refusal {
            TxRefusal::WrongChain { .. } => VerifyCounter::WrongChain,
            TxRefusal::NoChainId => VerifyCounter::NoChainId,
            TxRefusal::Expired { .. } => VerifyCounter::Expired,
            TxRefusal::NotYetValid { .. } => VerifyCounter::NotYetValid,
            TxRefusal::BadWindow { .. } => VerifyCounter::BadWindow,
            TxRefusal::FeeAbsurd { .. } => VerifyCounter::FeeAbsurd,
            TxRefusal::BadGas { .. } => VerifyCounter::BadGas,
        })?;
        if self.recent.contains(&id, stamp.time) {
            return Err(VerifyCounter::Duplicate);
        }
        let (check, sender) = match parsed.ed25519_check() {
            Some(check) => (Some(self.signatures.add(&check)), Address::ZERO),
            None => (None, parsed.verify().map_err(|_| VerifyCounter::BadSignature)?),
        };
        let checked = Checked {
            id,
            sender,
            nonce: terms.nonce,
            gas_limit: terms.gas_limit,
            max_fee: terms.max_fee,
            valid_until: self.rules.valid_until(&terms, stamp.time),
        };
        Ok(Admitted { index, wire: Span::new(at, wire.len()), stamp: *stamp, checked, check })
    }

    /// The verdict on an admitted transaction once the signatures are checked; a good one is remembered.
    pub(super) fn settle(&mut self, tx: &Admitted) -> Result<Checked, VerifyCounter> {
        let mut checked = tx.checked;
        if let Some(check) = tx.check {
            if !self.signatures.holds(check) {
                return Err(VerifyCounter::BadSignature);
            }
            checked.sender = address_of_ed25519(self.signatures.key(check));
        }
        // A copy may have come in the same poll.
        if self.recent.contains(&checked.id, tx.stamp.time) {
            return Err(VerifyCounter::Duplicate);
        }
        self.recent.insert(&checked.id, tx.stamp.time);
        Ok(checked)
    }
}
