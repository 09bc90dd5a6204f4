//! Snapshots of the state: how a new node gets the accounts after a final block, in ranges of the key space, each with
//! its proof.
//!
//! An account's place in the state tree is SHA-256 of its address, so a range of places that share their first bits is
//! one subtree, and the hashes beside the path to it prove all of it. What is asked is the subtree that begins at a
//! place; what is answered is the largest one there that fits an answer.

use crate::account::Account;
use crate::block::Header;
use crate::codec::{DecodeError, Reader, Sink};
use crate::ids::{Address, Hash32};
use crate::limits::{RANGE_ACCOUNTS_MAX, SNAPSHOT_HEADERS_MAX};
use crate::sync::{Seals, read_certificates, write_certificates};
use crate::vote::Certificate;

/// The deepest level of the state tree: one below the last bit of a place.
pub const STATE_DEPTH_MAX: usize = 256;

/// A final block that a snapshot is the state after, with what proves it: headers from it to one that is committed to.
/// The second header names the first one's results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor<'a> {
    /// The block's header, its child's, and so on to the one that `proof` commits to; two at least.
    pub headers: Vec<Header>,
    /// What stands beside the first.
    pub seals: Seals,
    /// What proves the last one final.
    pub proof: Vec<Certificate>,
    /// The first one's receipts, as its child's header commits to them; opaque here.
    pub receipts: &'a [u8],
}

impl<'a> Anchor<'a> {
    /// Appends the layout.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_u16(self.headers.len() as u16);
        self.headers.iter().for_each(|header| header.write(out));
        self.seals.write(out);
        write_certificates(&self.proof, out);
        out.put_u32(self.receipts.len() as u32);
        out.put(self.receipts);
    }

    /// Reads the layout.
    ///
    /// # Errors
    /// When a field is cut short, above its limit or means nothing.
    pub fn read(reader: &mut Reader<'a>) -> Result<Anchor<'a>, DecodeError> {
        let count = reader.count_u16("header count", SNAPSHOT_HEADERS_MAX)?;
        if count < 2 {
            return Err(DecodeError::BadValue { field: "header count", value: count as u64 });
        }
        let headers = (0..count).map(|_| Header::read(reader)).collect::<Result<_, _>>()?;
        let (seals, proof) = (Seals::read(reader)?, read_certificates(reader)?);
        let len = reader.u32("receipts length")? as usize;
        let receipts = reader.bytes("receipts", len)?;
        Ok(Anchor { headers, seals, proof, receipts })
    }
}

/// A subtree of the state: every account in it, and the way from it to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRange {
    /// The hash beside the path at each level, top first, as many as the subtree is deep; zero where that side is empty.
    pub siblings: Vec<Hash32>,
    /// Its accounts, in the order of their places.
    pub accounts: Vec<(Address, Account)>,
}

impl StateRange {
    /// Appends the layout.
    pub fn write(&self, out: &mut impl Sink) {
        write_siblings(&self.siblings, out);
        out.put_u16(self.accounts.len() as u16);
        for (address, account) in &self.accounts {
            out.put(&address.0);
            account.write(out);
        }
    }

    /// Reads the layout. Whether the accounts are in order is seen when it is proven.
    ///
    /// # Errors
    /// When a field is cut short, above its limit or means nothing.
    pub fn read(reader: &mut Reader<'_>) -> Result<StateRange, DecodeError> {
        let siblings = read_siblings(reader)?;
        let count = reader.count_u16("account count", RANGE_ACCOUNTS_MAX)?;
        let mut accounts = Vec::with_capacity(count.min(reader.rest().len() / (20 + Account::BYTES)));
        for _ in 0..count {
            accounts.push((Address(reader.array("account address")?), Account::read(reader)?));
        }
        Ok(StateRange { siblings, accounts })
    }
}

/// Appends the hashes beside a path of the state tree: depth `u16`; a bitmap of `ceil(depth / 8)` bytes, bit i (least
/// significant first) set when level i from the top has one that is not zero; those, top first.
pub fn write_siblings(siblings: &[Hash32], out: &mut impl Sink) {
    out.put_u16(siblings.len() as u16);
    let mut bitmap = [0_u8; STATE_DEPTH_MAX / 8];
    for (depth, sibling) in siblings.iter().enumerate() {
        bitmap[depth / 8] |= u8::from(*sibling != Hash32::ZERO) << (depth % 8);
    }
    out.put(&bitmap[..siblings.len().div_ceil(8)]);
    siblings.iter().filter(|hash| **hash != Hash32::ZERO).for_each(|hash| out.put(&hash.0));
}

/// Reads what [`write_siblings`] writes; every path has exactly one layout.
///
/// # Errors
/// When a field is cut short, above its limit or means nothing.
pub fn read_siblings(reader: &mut Reader<'_>) -> Result<Vec<Hash32>, DecodeError> {
    let depth = reader.count_u16("proof depth", STATE_DEPTH_MAX)?;
    let bitmap = reader.bytes("proof bitmap", depth.div_ceil(8))?;
    let last = bitmap.last().copied().unwrap_or(0);
    if depth % 8 != 0 && last >> (depth % 8) != 0 {
        return Err(DecodeError::BadValue { field: "proof bitmap", value: u64::from(last) });
    }
    let mut siblings = Vec::with_capacity(depth);
    for level in 0..depth {
        let present = bitmap[level / 8] >> (level % 8) & 1 == 1;
        let sibling = if present { Hash32(reader.array("proof sibling")?) } else { Hash32::ZERO };
        if present && sibling == Hash32::ZERO {
            return Err(DecodeError::BadValue { field: "proof sibling", value: 0 });
        }
        siblings.push(sibling);
    }
    Ok(siblings)
}
