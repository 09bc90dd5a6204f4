//! The data plane's stages by name.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A stage of the data plane. The order is the packet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Takes bursts from the port and stamps them.
    Rx,
    /// Drops floods by prefix and peer before anything is parsed.
    Filter,
    /// Parses frames.
    Decode,
    /// Opens sealed frames.
    Open,
    /// Checks signatures.
    Verify,
    /// Keeps the temporal mempool.
    Order,
    /// Fills block bodies.
    Builder,
    /// Chooses receivers and makes frames.
    Spread,
    /// Gives bursts to the port.
    Tx,
}

impl Stage {
    /// Every stage in packet order.
    pub const ALL: [Stage; 9] = [
        Stage::Rx,
        Stage::Filter,
        Stage::Decode,
        Stage::Open,
        Stage::Verify,
        Stage::Order,
        Stage::Builder,
        Stage::Spread,
        Stage::Tx,
    ];

    /// Whether every lane has one of its own: the stages before order.
    #[must_use]
    pub const fn is_in_lanes(self) -> bool {
        matches!(self, Stage::Rx | Stage::Filter | Stage::Decode | Stage::Open | Stage::Verify)
    }

    /// The name in profiles, metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Rx => "rx",
            Stage::Filter => "filter",
            Stage::Decode => "decode",
            Stage::Open => "open",
            Stage::Verify => "verify",
            Stage::Order => "order",
            Stage::Builder => "builder",
            Stage::Spread => "spread",
            Stage::Tx => "tx",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no stage's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" is no stage: the stages are rx filter decode open verify order builder spread tx")]
pub struct ParseStageError {
    name: String,
}

impl FromStr for Stage {
    type Err = ParseStageError;

    fn from_str(name: &str) -> Result<Self, ParseStageError> {
        Stage::ALL
            .into_iter()
            .find(|stage| stage.name() == name)
            .ok_or_else(|| ParseStageError { name: name.to_owned() })
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Stage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_keep_packet_order() {
        for stage in Stage::ALL {
            assert_eq!(stage.to_string().parse::<Stage>(), Ok(stage));
        }
        assert!(Stage::ALL.is_sorted());
        let message = "rxx".parse::<Stage>().unwrap_err().to_string();
        for stage in Stage::ALL {
            assert!(message.contains(stage.name()), "{message}");
        }
    }
}
