//! What two ends of a session say to each other after the handshake: twenty bytes each, a kind and its content.
//!
//! | kind | name | content | says |
//! |---:|---|---|---|
//! | 1 | rekey | phase u8 | the sender wants to seal with this phase next |
//! | 2 | ready | phase u8 | frames of this phase are opened here |
//! | 3 | switched | phase u8 | the sender seals with this phase now |
//! | 4 | moved | address, as in the hello | the sender's data plane is reached there from now on |
//! | 5 | ask | token u64, little-endian | the other end shall answer at once: it is there, and that long it takes |
//! | 6 | renew | | the dialer shall make a new session |
//! | 7 | banned | | the sender does not listen to the other end for a while, and ends the connection |
//! | 8 | answer | token u64 | the token that was asked |
//!
//! The rest of the twenty bytes is zero.

use crate::hello::{ENDPOINT_BYTES, endpoint_bytes, read_endpoint};
use roko_wire::genesis::Endpoint;

/// Bytes of every message.
pub(super) const MESSAGE_BYTES: usize = 1 + ENDPOINT_BYTES;

/// A message of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Rekey(u8),
    Ready(u8),
    Switched(u8),
    Moved(Endpoint),
    Ask(u64),
    Answer(u64),
    Renew,
    Banned,
}

impl Message {
    pub(super) fn to_bytes(self) -> [u8; MESSAGE_BYTES] {
        let mut out = [0; MESSAGE_BYTES];
        let (kind, phase) = match self {
            Message::Rekey(phase) => (1, phase),
            Message::Ready(phase) => (2, phase),
            Message::Switched(phase) => (3, phase),
            Message::Moved(endpoint) => {
                out[0] = 4;
                out[1..].copy_from_slice(&endpoint_bytes(&endpoint));
                return out;
            }
            Message::Ask(token) | Message::Answer(token) => {
                out[0] = if matches!(self, Message::Ask(_)) { 5 } else { 8 };
                out[1..9].copy_from_slice(&token.to_le_bytes());
                return out;
            }
            Message::Renew => (6, 0),
            Message::Banned => (7, 0),
        };
        (out[0], out[1]) = (kind, phase);
        out
    }

    pub(super) fn read(bytes: &[u8; MESSAGE_BYTES]) -> Option<Message> {
        let (phase, rest_is_zero) = (bytes[1], bytes[2..].iter().all(|byte| *byte == 0));
        match bytes[0] {
            1 if rest_is_zero => Some(Message::Rekey(phase)),
            2 if rest_is_zero => Some(Message::Ready(phase)),
            3 if rest_is_zero => Some(Message::Switched(phase)),
            4 => {
                let mut place = [0; ENDPOINT_BYTES];
                place.copy_from_slice(&bytes[1..]);
                read_endpoint(&place).map(Message::Moved)
            }
            kind @ (5 | 8) if bytes[9..].iter().all(|byte| *byte == 0) => {
                let mut token = [0; 8];
                token.copy_from_slice(&bytes[1..9]);
                let token = u64::from_le_bytes(token);
                Some(if kind == 5 { Message::Ask(token) } else { Message::Answer(token) })
            }
            6 if rest_is_zero && phase == 0 => Some(Message::Renew),
            7 if rest_is_zero && phase == 0 => Some(Message::Banned),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_reads_is_written_the_same(bytes in any::<[u8; MESSAGE_BYTES]>(), kind in 0u8..10, zero in any::<bool>()) {
            let mut bytes = bytes;
            bytes[0] = kind;
            if zero {
                bytes[if matches!(kind, 5 | 8) { 9 } else { 2 }..].fill(0);
            }
            if let Some(message) = Message::read(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }

        #[test]
        fn messages_read_back(phase in any::<u8>(), token in any::<u64>(), ip in any::<std::net::IpAddr>(), port in 1u16..) {
            let all = [
                Message::Rekey(phase),
                Message::Ready(phase),
                Message::Switched(phase),
                Message::Moved(Endpoint { ip, port }),
                Message::Ask(token),
                Message::Answer(token),
                Message::Banned,
                Message::Renew,
            ];
            for message in all {
                prop_assert_eq!(Message::read(&message.to_bytes()), Some(message));
            }
        }
    }
}
