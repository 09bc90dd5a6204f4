//! Receipts: what became of each transaction of a block.

use roko_wire::codec::{DecodeError, Reader, Sink};
use roko_wire::{Hash32, NanoMoment, TxId, merkle};

/// What became of a transaction. The byte is what the receipt's layout carries; 0 is kept for an EVM's revert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Its effects are in the state.
    Succeeded = 1,
    /// Its sender could pay the gas, and not the value.
    InsufficientBalance = 2,
    /// It creates or calls code, which this executor does not run.
    NoCodeSupport = 3,
}

impl Status {
    /// Reads the layout's byte; `None` for a byte that names no status.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Status> {
        Some(match byte {
            1 => Status::Succeeded,
            2 => Status::InsufficientBalance,
            3 => Status::NoCodeSupport,
            _ => return None,
        })
    }
}

/// What became of one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The transaction.
    pub id: TxId,
    /// What became of it.
    pub status: Status,
    /// Gas it paid for.
    pub gas_used: u64,
    /// What it paid per gas, base fee and tip, smallest unit.
    pub fee_per_gas: u128,
    /// Its moment.
    pub moment: NanoMoment,
}

impl Receipt {
    /// Bytes of the canonical layout.
    pub const BYTES: usize = 32 + 1 + 8 + 16 + 16;

    /// Appends the canonical layout: id, status, gas used, fee per gas, moment.
    pub fn write(&self, out: &mut impl Sink) {
        out.put(&self.id.0);
        out.put_u8(self.status as u8);
        out.put_u64(self.gas_used);
        out.put_u128(self.fee_per_gas);
        out.put_u128(self.moment.0);
    }

    /// Reads the canonical layout.
    pub fn read(reader: &mut Reader<'_>) -> Result<Receipt, DecodeError> {
        let id = TxId(reader.array("receipt id")?);
        let byte = reader.u8("receipt status")?;
        Ok(Receipt {
            id,
            status: Status::from_byte(byte)
                .ok_or(DecodeError::BadValue { field: "receipt status", value: u64::from(byte) })?,
            gas_used: reader.u64("receipt gas used")?,
            fee_per_gas: reader.u128("receipt fee per gas")?,
            moment: NanoMoment(reader.u128("receipt moment")?),
        })
    }

    /// The receipt's leaf in its block's receipts tree.
    #[must_use]
    pub fn leaf(&self) -> Hash32 {
        merkle::leaf(&[
            b"roko/receipt-leaf/1",
            &self.id.0,
            &[self.status as u8],
            &self.gas_used.to_le_bytes(),
            &self.fee_per_gas.to_le_bytes(),
            &self.moment.to_le_bytes(),
        ])
    }
}

/// The root of a block's receipts, in chain order; zero for an empty block.
#[must_use]
pub fn receipts_root(receipts: &[Receipt]) -> Hash32 {
    let mut level: Vec<Hash32> = receipts.iter().map(Receipt::leaf).collect();
    merkle::root_in_place(&mut level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(n: u8) -> Receipt {
        Receipt {
            id: TxId([n; 32]),
            status: Status::InsufficientBalance,
            gas_used: 21_000 + u64::from(n),
            fee_per_gas: 1 << 70,
            moment: NanoMoment(1 << 100),
        }
    }

    #[test]
    fn the_layout_reads_back_and_is_what_the_leaf_commits_to() {
        let mut bytes = Vec::new();
        receipt(7).write(&mut bytes);
        assert_eq!(bytes.len(), Receipt::BYTES);
        assert_eq!(Receipt::read(&mut Reader::new(&bytes)), Ok(receipt(7)));
        assert_eq!(receipt(7).leaf(), merkle::leaf(&[b"roko/receipt-leaf/1", &bytes]));
        bytes[32] = 0;
        assert!(Receipt::read(&mut Reader::new(&bytes)).is_err(), "0 names no status");
        assert!(Receipt::read(&mut Reader::new(&bytes[..Receipt::BYTES - 1])).is_err());
    }

    #[test]
    fn the_root_depends_on_every_receipt_and_their_order() {
        let all = [receipt(1), receipt(2), receipt(3)];
        let root = receipts_root(&all);
        assert_ne!(root, receipts_root(&[all[1], all[0], all[2]]));
        assert_ne!(root, receipts_root(&all[..2]));
        assert_eq!(receipts_root(&[]), Hash32::ZERO);
        assert_eq!(receipts_root(&all[..1]), all[0].leaf());
    }
}
