//! The canonical order of a block: how attested times become unique NanoMoments.
//!
//! Transactions go by (stamp time, tie-break, id). Each gets `max(stamp time, previous moment + 1)`. One whose sender
//! has a lower nonce with a later key in the same block is *displaced*: it follows its predecessor at once. Every
//! moment is below the watermark. A validator re-checks all of this in one pass.

use crate::ids::{Address, TxId};
use crate::nano::NanoMoment;
use std::collections::HashMap;

/// What the order looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Transaction.
    pub id: TxId,
    /// Its sender.
    pub sender: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Its stamp's time.
    pub time: NanoMoment,
    /// See [`crate::tx::tie_break`].
    pub tie_break: u64,
    /// Its assigned moment.
    pub moment: NanoMoment,
}

/// A body that is out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A key below the one before, with no nonce to excuse it.
    #[error("transaction {index} is out of (time, tie-break, id) order")]
    Key {
        /// Place in the body.
        index: usize,
    },
    /// Not the moment that the rule gives.
    #[error("transaction {index} has moment {have}; the rule gives {want}")]
    Moment {
        /// Place in the body.
        index: usize,
        /// In the body.
        have: NanoMoment,
        /// By the rule.
        want: NanoMoment,
    },
    /// A stamp outside the block's span, or a moment not below the watermark.
    #[error("transaction {index} lies outside the block's span")]
    Span {
        /// Place in the body.
        index: usize,
    },
    /// A sender's nonces do not go up by one.
    #[error("transaction {index} breaks its sender's nonce sequence")]
    Nonce {
        /// Place in the body.
        index: usize,
    },
}

/// Checks a body's order: stamps in `from..watermark`, the first moment after `previous`.
pub fn check_order(
    txs: &[Ordered],
    from: NanoMoment,
    watermark: NanoMoment,
    previous: NanoMoment,
) -> Result<(), OrderError> {
    type Key = (NanoMoment, u64, TxId);
    // Per sender: the key and nonce of its last transaction in this block, and where it stands.
    let mut senders: HashMap<Address, (Key, u64, usize)> = HashMap::with_capacity(txs.len());
    let mut last_key: Option<Key> = None;
    let mut last_moment = previous;
    for (index, tx) in txs.iter().enumerate() {
        let key = (tx.time, tx.tie_break, tx.id);
        let before = senders.get(&tx.sender).copied();
        if before.is_some_and(|(_, nonce, _)| nonce.checked_add(1) != Some(tx.nonce)) {
            return Err(OrderError::Nonce { index });
        }
        if tx.time < from || tx.time >= watermark || tx.moment >= watermark {
            return Err(OrderError::Span { index });
        }
        // Displaced: the predecessor by nonce has the larger key, and the chain behind it is unbroken up to here.
        let displaced = before.is_some_and(|(key_before, _, at)| key_before > key && at + 1 == index);
        if !displaced {
            if last_key.is_some_and(|last| last >= key) {
                return Err(OrderError::Key { index });
            }
            last_key = Some(key);
        }
        let want = last_moment.saturating_add(1).max(tx.time);
        if tx.moment != want {
            return Err(OrderError::Moment { index, have: tx.moment, want });
        }
        last_moment = tx.moment;
        // A displaced transaction stands at its predecessor's key, so that the next in the chain may follow it.
        let stands_at = if displaced { before.map_or(key, |(key_before, _, _)| key_before) } else { key };
        senders.insert(tx.sender, (stands_at, tx.nonce, index));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tx(sender: u8, nonce: u64, time: u128, moment: u128) -> Ordered {
        let mut id = TxId::ZERO;
        id.0[0] = sender;
        id.0[1] = nonce as u8;
        Ordered {
            id,
            sender: Address([sender; 20]),
            nonce,
            time: NanoMoment(time),
            tie_break: 0,
            moment: NanoMoment(moment),
        }
    }

    fn check(txs: &[Ordered]) -> Result<(), OrderError> {
        check_order(txs, NanoMoment(100), NanoMoment(200), NanoMoment(100))
    }

    #[test]
    fn collisions_move_to_the_next_free_nanosecond() {
        assert_eq!(check(&[tx(1, 0, 100, 101), tx(2, 0, 100, 102), tx(3, 0, 150, 150)]), Ok(()));
        assert!(matches!(check(&[tx(1, 0, 110, 111)]), Err(OrderError::Moment { index: 0, .. })));
    }

    #[test]
    fn a_later_key_first_is_refused_unless_a_nonce_excuses_it() {
        assert_eq!(check(&[tx(2, 0, 150, 150), tx(1, 0, 120, 151)]), Err(OrderError::Key { index: 1 }));
        assert_eq!(
            check(&[tx(1, 0, 150, 150), tx(1, 1, 120, 151), tx(1, 2, 110, 152), tx(2, 0, 160, 160)]),
            Ok(())
        );
        let behind_another = [tx(1, 0, 150, 150), tx(2, 0, 151, 151), tx(1, 1, 120, 152)];
        assert_eq!(check(&behind_another), Err(OrderError::Key { index: 2 }));
    }

    #[test]
    fn spans_and_nonces_are_held() {
        assert_eq!(check(&[tx(1, 0, 99, 101)]), Err(OrderError::Span { index: 0 }));
        assert_eq!(check(&[tx(1, 0, 200, 200)]), Err(OrderError::Span { index: 0 }));
        assert_eq!(check(&[tx(1, 0, 199, 199), tx(2, 0, 199, 200)]), Err(OrderError::Span { index: 1 }));
        assert_eq!(check(&[tx(1, 0, 110, 110), tx(1, 2, 120, 120)]), Err(OrderError::Nonce { index: 1 }));
    }
}
