//! Amounts as people write them: ROKO with up to 18 decimal places.

use ruint::aliases::U256;

const DECIMALS: usize = 18;
const UNITS_PER_ROKO: u64 = 1_000_000_000_000_000_000;

/// Text that is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no amount of ROKO: {why}")]
pub struct AmountError {
    text: String,
    why: &'static str,
}

/// Reads an amount of ROKO, `1.5` or `1000`, in the smallest unit (10^-18 ROKO). There are no signs, exponents or
/// separators, so that an amount is read in one way only.
pub fn parse_roko(text: &str) -> Result<U256, AmountError> {
    let error = |why| AmountError { text: text.chars().take(80).collect(), why };
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(places) {
        return Err(error("write digits, and a point before decimal places, as in 1.5"));
    }
    if places.len() > DECIMALS {
        return Err(error("it has more than 18 decimal places: the smallest unit is 10^-18 ROKO"));
    }
    let too_much = || error("it is over 2^256 of the smallest unit");
    let whole = U256::from_str_radix(whole, 10).map_err(|_| too_much())?;
    let places = U256::from_str_radix(&format!("{places:0<DECIMALS$}"), 10).map_err(|_| too_much())?;
    let units = whole.checked_mul(U256::from(UNITS_PER_ROKO)).and_then(|units| units.checked_add(places));
    units.ok_or_else(too_much)
}

/// An amount in the smallest unit as ROKO, without trailing zeros.
#[must_use]
pub fn format_roko(units: U256) -> String {
    let (whole, places) = units.div_rem(U256::from(UNITS_PER_ROKO));
    if places.is_zero() {
        return whole.to_string();
    }
    let places = format!("{:0>DECIMALS$}", places.to_string());
    format!("{whole}.{}", places.trim_end_matches('0'))
}
