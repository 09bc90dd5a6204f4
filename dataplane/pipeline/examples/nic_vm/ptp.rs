//! PTP event messages in Ethernet frames, as far as this example needs them (IEEE 1588-2019, clauses 13.3 and 13.6,
//! annex E).

/// Bytes of an event message's frame: the Ethernet header, 44 bytes of message, padding to Ethernet's least.
pub(crate) const FRAME_BYTES: usize = 60;

const ETHERTYPE: [u8; 2] = [0x88, 0xf7];
/// The primary multicast address of PTP (annex E.3).
const EVERYONE: [u8; 6] = [0x01, 0x1b, 0x19, 0, 0, 0];
/// Where the message begins: behind the Ethernet header.
const MESSAGE: usize = 14;
const SEQUENCE: usize = MESSAGE + 30;
const ORIGIN_TIME: usize = MESSAGE + 34;
const MESSAGE_BYTES: u16 = 44;

/// The event messages that end stations send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Sync,
    DelayReq,
}

impl Event {
    /// `messageType` (table 36).
    pub(crate) const fn kind(self) -> u8 {
        match self {
            Event::Sync => 0,
            Event::DelayReq => 1,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Event::Sync => "Sync",
            Event::DelayReq => "Delay_Req",
        }
    }
}

/// An event message from `source` to everyone; its origin time is 0.
pub(crate) fn frame(event: Event, sequence: u16, source: [u8; 6]) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..6].copy_from_slice(&EVERYONE);
    frame[6..12].copy_from_slice(&source);
    frame[12..14].copy_from_slice(&ETHERTYPE);
    frame[MESSAGE] = event.kind();
    frame[MESSAGE + 1] = 2; // versionPTP
    frame[MESSAGE + 2..][..2].copy_from_slice(&MESSAGE_BYTES.to_be_bytes());
    frame[SEQUENCE..][..2].copy_from_slice(&sequence.to_be_bytes());
    frame
}

/// The event message in `frame` and its sequence number; `None` when the frame holds something else.
pub(crate) fn read(frame: &[u8]) -> Option<(Event, u16)> {
    if frame.len() < ORIGIN_TIME + 10 || frame[12..14] != ETHERTYPE || frame[MESSAGE + 1] & 0xf != 2 {
        return None;
    }
    let event = match frame[MESSAGE] & 0xf {
        0 => Event::Sync,
        1 => Event::DelayReq,
        _ => return None,
    };
    Some((event, u16::from_be_bytes([frame[SEQUENCE], frame[SEQUENCE + 1]])))
}

/// Writes the origin time, ns: 48 bits of seconds, 32 bits of nanoseconds. `frame` is one that [`read`] knows.
pub(crate) fn set_origin_time(frame: &mut [u8], time_ns: u64) {
    let (seconds, nanoseconds) = (time_ns / 1_000_000_000, (time_ns % 1_000_000_000) as u32);
    frame[ORIGIN_TIME..][..6].copy_from_slice(&seconds.to_be_bytes()[2..]);
    frame[ORIGIN_TIME + 6..][..4].copy_from_slice(&nanoseconds.to_be_bytes());
}

/// The origin time, ns, of a frame that [`read`] knows; what does not fit 64 bits is their maximum.
pub(crate) fn origin_time(frame: &[u8]) -> u64 {
    let bytes = &frame[ORIGIN_TIME..][..10];
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    number(&bytes[..6]).saturating_mul(1_000_000_000).saturating_add(number(&bytes[6..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_as_it_was_written() {
        for event in [Event::Sync, Event::DelayReq] {
            let mut frame = frame(event, 0x1234, [2, 0, 0, 0, 0, 9]);
            assert_eq!(read(&frame), Some((event, 0x1234)));
            assert_eq!(origin_time(&frame), 0);
            set_origin_time(&mut frame, 7_000_000_123_456_789);
            assert_eq!(origin_time(&frame), 7_000_000_123_456_789);
            assert_eq!(read(&frame), Some((event, 0x1234)));
        }
    }

    #[test]
    fn what_is_no_event_message_is_none() {
        let good = frame(Event::Sync, 1, [2; 6]);
        assert_eq!(read(&good[..ORIGIN_TIME + 9]), None, "short");
        for (at, byte) in [(12, 0x08), (MESSAGE + 1, 1), (MESSAGE, 8)] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(read(&bad), None, "byte {at} is {byte}");
        }
    }
}
