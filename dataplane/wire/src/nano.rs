//! [`NanoMoment`]: a point on the chain's linear timescale, in nanoseconds.
//!
//! The timescale is TAI less the offset fixed in genesis (37 s), so it equals Unix time when the chain starts
//! and never repeats or jumps at a leap second.

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since 1970-01-01T00:00:00 on the chain's timescale. 16 bytes little-endian on the wire, a
/// decimal string in JSON. Arithmetic is checked: there is no operator that wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoMoment(pub u128);

impl NanoMoment {
    /// The epoch, 1970-01-01T00:00:00.
    pub const ZERO: NanoMoment = NanoMoment(0);
    /// The latest moment that can be represented.
    pub const MAX: NanoMoment = NanoMoment(u128::MAX);

    /// The moment `nanos` after this one, or `None` past the end of the range.
    #[must_use]
    pub const fn checked_add(self, nanos: u64) -> Option<NanoMoment> {
        match self.0.checked_add(nanos as u128) {
            Some(value) => Some(NanoMoment(value)),
            None => None,
        }
    }

    /// The moment `nanos` after this one, at most [`NanoMoment::MAX`].
    #[must_use]
    pub const fn saturating_add(self, nanos: u64) -> NanoMoment {
        NanoMoment(self.0.saturating_add(nanos as u128))
    }

    /// The moment `nanos` before this one, at least [`NanoMoment::ZERO`].
    #[must_use]
    pub const fn saturating_sub(self, nanos: u64) -> NanoMoment {
        NanoMoment(self.0.saturating_sub(nanos as u128))
    }

    /// Nanoseconds from `earlier` to this moment; 0 when `earlier` is later, `u64::MAX` when over 584 years.
    #[must_use]
    pub const fn nanos_since(self, earlier: NanoMoment) -> u64 {
        let difference = self.0.saturating_sub(earlier.0);
        if difference > u64::MAX as u128 { u64::MAX } else { difference as u64 }
    }

    /// The 16 little-endian bytes used on the wire and in every hash.
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Reads the 16 little-endian bytes used on the wire.
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; 16]) -> NanoMoment {
        NanoMoment(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for NanoMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for NanoMoment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NanoMoment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(NanoMoment).map_err(|_| {
            serde::de::Error::custom(format!("\"{text}\" is not a decimal count of nanoseconds below 2^128"))
        })
    }
}

/// Where a clock reading or a stamp comes from. The byte is what the wire carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ClockSource {
    /// A GNSS receiver or a time card disciplined by one.
    Gnss = 0,
    /// IEEE 1588 PTP.
    Ptp = 1,
    /// Four-timestamp exchanges with peers.
    Peers = 2,
    /// No source now; the last one extrapolated.
    Holdover = 3,
    /// The host's system clock, not traceable to any reference.
    System = 4,
}

impl ClockSource {
    /// Reads the wire's byte; `None` for a byte that names no source.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<ClockSource> {
        Some(match byte {
            0 => ClockSource::Gnss,
            1 => ClockSource::Ptp,
            2 => ClockSource::Peers,
            3 => ClockSource::Holdover,
            4 => ClockSource::System,
            _ => return None,
        })
    }
}

/// A clock's health. Readings of a `Degraded` clock fail closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ClockState {
    /// No estimate yet.
    Initializing = 0,
    /// An estimate exists, the bound is still shrinking.
    Converging = 1,
    /// Within the limit.
    Converged = 2,
    /// The source is gone; the bound grows.
    Holdover = 3,
    /// The bound is past the limit.
    Degraded = 4,
}

/// A reading with its bound: the true time lies in `[earliest, latest]` (the shape of Spanner's TrueTime).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The best estimate.
    pub now: NanoMoment,
    /// Half the width of the interval, nanoseconds.
    pub error_bound_ns: u64,
    /// Where the time comes from.
    pub source: ClockSource,
    /// Health of the clock.
    pub state: ClockState,
}

impl ClockReading {
    /// The earliest moment the true time can be.
    #[must_use]
    pub const fn earliest(&self) -> NanoMoment {
        self.now.saturating_sub(self.error_bound_ns)
    }

    /// The latest moment the true time can be.
    #[must_use]
    pub const fn latest(&self) -> NanoMoment {
        self.now.saturating_add(self.error_bound_ns)
    }
}
