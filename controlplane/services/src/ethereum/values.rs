//! How numbers, bytes and blocks look in Ethereum's JSON: quantities are `0x` and hexadecimal digits without leading
//! zeros, data is `0x` and two digits a byte.

use core::fmt;
use roko_wire::{BlockId, Height};
use ruint::aliases::U256;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number: `0x0`, `0x41`; never `0x` or `0x041`. Reading takes a JSON number too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(pub U256);

impl Quantity {
    /// The number when it is below 2^64.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }

    fn parse(text: &str) -> Option<Quantity> {
        let digits = text.strip_prefix("0x")?;
        let canonical = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (canonical && plain && digits.len() <= 64)
            .then(|| U256::from_str_radix(digits, 16).ok().map(Quantity))?
    }
}

macro_rules! quantity_from {
    ($($int:ty),*) => {
        $(impl From<$int> for Quantity {
            fn from(value: $int) -> Quantity {
                Quantity(U256::from(value))
            }
        })*
    };
}
quantity_from!(u8, u32, u64, u128);

impl From<Height> for Quantity {
    fn from(height: Height) -> Quantity {
        height.0.into()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
        struct QuantityVisitor;
        impl Visitor<'_> for QuantityVisitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity: \"0x\" and hexadecimal digits without leading zeros")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(number.into())
            }
        }
        deserializer.deserialize_any(QuantityVisitor)
    }
}

/// Bytes: `0x` and two digits each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data(pub Vec<u8>);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0x{}", hex::encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("data begins with \"0x\""))?;
        hex::decode(digits).map(Data).map_err(|error| {
            D::Error::custom(format!("data is \"0x\" and two hexadecimal digits a byte: {error}"))
        })
    }
}

/// Which block is meant: a tag, a number, or EIP-1898's object with `blockNumber` or `blockHash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRef {
    /// `latest`, `safe` and `finalized`: the highest final block, on this node's disk.
    Latest,
    /// `pending`: the same, with what is known of pending transactions.
    Pending,
    /// `earliest` is number 0.
    Number(Height),
    /// By its id.
    Hash(BlockId),
}

impl<'de> Deserialize<'de> for BlockRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BlockRef, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Object(Object),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object {
            block_number: Option<Quantity>,
            block_hash: Option<BlockId>,
        }
        let number = |quantity: Quantity| {
            let height = quantity.as_u64().ok_or_else(|| D::Error::custom("a block number is below 2^64"))?;
            Ok(BlockRef::Number(Height(height)))
        };
        let expected =
            "a block is \"latest\", \"safe\", \"finalized\", \"pending\", \"earliest\" or a quantity";
        match Form::deserialize(deserializer).map_err(|_| D::Error::custom(expected))? {
            Form::Text(text) => match text.as_str() {
                "latest" | "safe" | "finalized" => Ok(BlockRef::Latest),
                "pending" => Ok(BlockRef::Pending),
                "earliest" => Ok(BlockRef::Number(Height(0))),
                digits => number(Quantity::parse(digits).ok_or_else(|| D::Error::custom(expected))?),
            },
            Form::Object(Object { block_hash: Some(id), block_number: None }) => Ok(BlockRef::Hash(id)),
            Form::Object(Object { block_number: Some(quantity), block_hash: None }) => number(quantity),
            Form::Object(_) => Err(D::Error::custom("name either blockNumber or blockHash (EIP-1898)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_minimal() {
        for (value, text) in [(0u64, "0x0"), (65, "0x41"), (1_024, "0x400"), (u64::MAX, "0xffffffffffffffff")]
        {
            assert_eq!(serde_json::to_value(Quantity::from(value)).unwrap(), text);
            assert_eq!(serde_json::from_value::<Quantity>(json!(text)).unwrap(), value.into());
        }
        for bad in [
            json!("0x"),
            json!("0x041"),
            json!("41"),
            json!("0xg"),
            json!(-1),
            json!(format!("0x1{:064}", 0)),
        ] {
            assert!(serde_json::from_value::<Quantity>(bad.clone()).is_err(), "{bad}");
        }
        let widest = format!("0x{}", "f".repeat(64));
        assert_eq!(serde_json::to_value(Quantity(U256::MAX)).unwrap(), widest);
    }

    #[test]
    fn data_is_two_digits_a_byte() {
        assert_eq!(serde_json::to_value(Data(vec![0, 0x41])).unwrap(), "0x0041");
        assert_eq!(serde_json::from_value::<Data>(json!("0x")).unwrap(), Data::default());
        for bad in ["", "0041", "0x4", "0xzz"] {
            assert!(serde_json::from_value::<Data>(json!(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn blocks_are_named_by_tag_number_or_eip_1898() {
        let id = BlockId([7; 32]);
        let cases = [
            (json!("latest"), BlockRef::Latest),
            (json!("finalized"), BlockRef::Latest),
            (json!("pending"), BlockRef::Pending),
            (json!("earliest"), BlockRef::Number(Height(0))),
            (json!("0x1f"), BlockRef::Number(Height(31))),
            (json!({"blockNumber": "0x2"}), BlockRef::Number(Height(2))),
            (json!({"blockHash": id.to_string()}), BlockRef::Hash(id)),
        ];
        for (text, want) in cases {
            assert_eq!(serde_json::from_value::<BlockRef>(text).unwrap(), want);
        }
        for bad in [
            json!("newest"),
            json!("0x01"),
            json!({}),
            json!([]),
            json!({"blockNumber": "0x1", "blockHash": id.to_string()}),
        ] {
            assert!(serde_json::from_value::<BlockRef>(bad.clone()).is_err(), "{bad}");
        }
    }
}
