//! How integers look in JSON: those of 32 bits and fewer are numbers, wider ones are decimal strings.
//!
//! This is the rule of the Protocol Buffers JSON mapping. A reader whose only number is a double (JavaScript, `jq`)
//! would silently round a `u64` above 2^53. Reading accepts a JSON number too, so that a hand-written request may
//! say `7` for `"7"`.
//!
//! Use as `#[serde(with = "crate::json::decimal")]` or, for an `Option`, `"crate::json::decimal_option"`.

use core::fmt;
use roko_wire::{ChainId, Epoch, Height, View};
use ruint::aliases::U256;

/// An integer that is written as a decimal string.
pub trait Decimal: fmt::Display + Sized {
    /// What is accepted, for the error message.
    const RANGE: &'static str;
    /// Reads decimal digits only: no sign, no prefix, no spaces. `None` when out of range.
    fn from_digits(digits: &str) -> Option<Self>;
}

impl Decimal for u64 {
    const RANGE: &'static str = "a decimal integer below 2^64";
    fn from_digits(digits: &str) -> Option<Self> {
        digits.parse().ok()
    }
}

impl Decimal for u128 {
    const RANGE: &'static str = "a decimal integer below 2^128";
    fn from_digits(digits: &str) -> Option<Self> {
        digits.parse().ok()
    }
}

impl Decimal for U256 {
    const RANGE: &'static str = "a decimal integer below 2^256";
    fn from_digits(digits: &str) -> Option<Self> {
        U256::from_str_radix(digits, 10).ok()
    }
}

/// Gives number ids the text of the number in them.
macro_rules! decimal_id {
    ($($name:ident),*) => {
        $(impl Decimal for $name {
            const RANGE: &'static str = u64::RANGE;
            fn from_digits(digits: &str) -> Option<Self> {
                u64::from_digits(digits).map($name)
            }
        })*
    };
}
decimal_id!(ChainId, Epoch, Height, View);

/// Reads `text` as decimal digits.
pub fn parse_decimal<T: Decimal>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    T::from_digits(text)
}

/// Accepts a string of digits or a JSON number that is not negative.
struct DecimalVisitor<T>(core::marker::PhantomData<T>);

impl<T: Decimal> serde::de::Visitor<'_> for DecimalVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::RANGE)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        parse_decimal(text).ok_or_else(|| E::custom(format!("\"{text}\" is not {}", T::RANGE)))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// For a field that holds a [`Decimal`].
pub mod decimal {
    use super::{Decimal, DecimalVisitor};
    use serde::{Deserializer, Serializer};

    /// Writes a decimal string.
    pub fn serialize<T: Decimal, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads a decimal string or a JSON number.
    pub fn deserialize<'de, T: Decimal, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(DecimalVisitor(core::marker::PhantomData))
    }
}

/// For a field that holds an `Option` of a [`Decimal`]; `None` is `null`.
pub mod decimal_option {
    use super::Decimal;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a decimal string or `null`.
    pub fn serialize<T: Decimal, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a decimal string, a JSON number or `null`.
    pub fn deserialize<'de, T: Decimal, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        struct Field<T>(T);
        impl<'de, T: Decimal> Deserialize<'de> for Field<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::decimal::deserialize(deserializer).map(Field)
            }
        }
        Ok(Option::<Field<T>>::deserialize(deserializer)?.map(|field| field.0))
    }
}

/// For a field that holds an `Arc`: written and read as what is in it.
pub mod shared {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    /// Writes what is in the `Arc`.
    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    /// Reads into a new `Arc`.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(d).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(with = "decimal")]
        height: Height,
        #[serde(with = "decimal")]
        balance: U256,
        #[serde(with = "decimal_option")]
        gas: Option<u64>,
    }

    #[test]
    fn wide_integers_keep_every_digit() {
        let row = Row { height: Height(u64::MAX), balance: U256::MAX, gas: Some((1 << 53) + 1) };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(
            text,
            "{\"height\":\"18446744073709551615\",\"balance\":\"115792089237316195423570985008687907853269984665640564039457584007913129639935\",\"gas\":\"9007199254740993\"}"
        );
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }

    #[test]
    fn numbers_and_null_are_read() {
        let row: Row = serde_json::from_str("{\"height\":7,\"balance\":\"0\",\"gas\":null}").unwrap();
        assert_eq!(row, Row { height: Height(7), balance: U256::ZERO, gas: None });
    }

    #[test]
    fn what_is_not_digits_or_too_large_is_refused() {
        for text in ["", "-1", "+1", " 1", "0x10", "1_000", "1.0", "18446744073709551616"] {
            assert_eq!(parse_decimal::<u64>(text), None, "{text:?}");
        }
        let too_large = format!("{}0", U256::MAX);
        assert_eq!(parse_decimal::<U256>(&too_large), None);
    }
}
