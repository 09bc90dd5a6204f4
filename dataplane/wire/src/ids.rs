//! Identifiers. An index, a hash and a height are different types, so that none is passed for another.

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Defines a byte-array identifier with hexadecimal text in Display, Debug, FromStr and serde.
macro_rules! bytes_id {
    ($(#[$meta:meta])* $name:ident, $len:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// All bytes zero.
            pub const ZERO: $name = $name([0; $len]);
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl core::str::FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)
                    .map_err(|_| ParseIdError { text: text.to_owned(), bytes: $len })?;
                Ok($name(bytes))
            }
        }
        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Text that should have been a hexadecimal identifier.
#[derive(Debug, thiserror::Error)]
#[error("\"{text}\" is not {bytes} bytes in hexadecimal (\"0x\" and {} digits)", bytes * 2)]
pub struct ParseIdError {
    text: String,
    bytes: usize,
}

bytes_id!(
    /// A 32-byte hash or Merkle root.
    Hash32,
    32
);
bytes_id!(
    /// A block's id: SHA-256 of its header's canonical layout.
    BlockId,
    32
);
bytes_id!(
    /// A transaction's id: Keccak-256 of its canonical bytes and signature (native) or its raw bytes (Ethereum).
    TxId,
    32
);
bytes_id!(
    /// A 20-byte account address, as Ethereum's.
    Address,
    20
);

/// Defines an integer identifier that orders and prints as its number.
macro_rules! number_id {
    ($(#[$meta:meta])* $name:ident, $int:ty) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl $name {
            /// The next one, saturating at the end of the range.
            #[must_use]
            pub const fn next(self) -> $name {
                $name(self.0.saturating_add(1))
            }
        }
    };
}

number_id!(
    /// Which chain a message belongs to; part of everything that is signed.
    ChainId,
    u64
);
number_id!(
    /// A consensus view. Genesis is view 0.
    View,
    u64
);
number_id!(
    /// A block's height. Genesis is height 0.
    Height,
    u64
);
number_id!(
    /// An epoch: the span in which the validator set is fixed.
    Epoch,
    u64
);
number_id!(
    /// A validator's place in its epoch's set, from 0.
    ValidatorIndex,
    u16
);

impl ValidatorIndex {
    /// As an index into a slice.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}
