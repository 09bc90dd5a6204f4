//! The tag of a virtual LAN (IEEE 802.1Q, 9.6): four bytes between a frame's addresses and its EtherType.
//!
//! A port that belongs to one takes the tag off what it receives and puts it on what it sends, so that nothing behind it knows
//! of tags. Only the twelve bytes of the addresses move.

use crate::net::be16;

/// Bytes of a tag.
pub const VLAN_TAG_BYTES: usize = 4;
/// Highest number of a virtual LAN; 0 is none, and 4,095 is reserved.
pub const VLAN_MAX: u16 = 4_094;
const TAG_ETHERTYPE: u16 = 0x8100;
const ADDRESS_BYTES: usize = 12;

/// The virtual LAN that a tagged frame is of; `None` without a tag.
#[must_use]
pub fn vlan_of(frame: &[u8]) -> Option<u16> {
    let tagged =
        be16(frame, ADDRESS_BYTES).ok()? == TAG_ETHERTYPE && frame.len() >= ADDRESS_BYTES + VLAN_TAG_BYTES;
    tagged.then(|| be16(frame, ADDRESS_BYTES + 2).map(|tag| tag & 0x0fff)).and_then(Result::ok)
}

/// Takes the tag of `vlan` off: true when the frame has it, and then starts [`VLAN_TAG_BYTES`] later.
#[must_use]
pub fn take_tag_off(frame: &mut [u8], vlan: u16) -> bool {
    let has = vlan_of(frame) == Some(vlan);
    if has {
        frame.copy_within(..ADDRESS_BYTES, VLAN_TAG_BYTES);
    }
    has
}

/// Puts the tag of `vlan`, priority 0, on a frame that begins [`VLAN_TAG_BYTES`] after the start of `room`. A no-op when there
/// are no addresses.
pub fn put_tag_on(room: &mut [u8], vlan: u16) {
    if room.len() < VLAN_TAG_BYTES + ADDRESS_BYTES {
        return;
    }
    room.copy_within(VLAN_TAG_BYTES..VLAN_TAG_BYTES + ADDRESS_BYTES, 0);
    room[ADDRESS_BYTES..ADDRESS_BYTES + 2].copy_from_slice(&TAG_ETHERTYPE.to_be_bytes());
    room[ADDRESS_BYTES + 2..ADDRESS_BYTES + 4].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
}
