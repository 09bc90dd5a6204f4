//! Vectors of a sealed frame, from the Ethernet header to the tag.

use super::Vector;
use crate::samples::{counting, header};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use core::net::IpAddr;
use roko_wire::frame::{FRAME_HEADER_BYTES, FrameHeader, PriorityClass, TAG_BYTES, nonce};
use roko_wire::ids::View;
use roko_wire::message::Message;
use roko_wire::net::{Addresses, Mac, fill_udp6_checksum, headers_bytes, write_headers};

/// The key of the sealed vectors.
pub(crate) const KEY: [u8; 32] = [0x5a; 32];

/// The header of the sealed vectors.
pub(crate) fn frame_header() -> FrameHeader {
    FrameHeader {
        key_phase: 1,
        core: 2,
        class: PriorityClass::Consensus,
        session: 0x1122_3344_5566_7788,
        sequence: 0x0102_0304,
    }
}

/// A message in the clear: a pull of view 41's certificates.
pub(crate) fn message() -> Vec<u8> {
    let mut out = Vec::new();
    Message::PullCertificate(View(41)).write(&mut out);
    out
}

/// The header, the sealed message and its tag.
fn sealed() -> Vec<u8> {
    let header = frame_header();
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(KEY));
    let nonce = Nonce::from(nonce(&counting(0xc0), header.sequence));
    let mut text = message();
    let associated = header.to_bytes();
    let tag =
        cipher.encrypt_inout_detached(&nonce, &associated, text.as_mut_slice().into()).expect("it is short");
    [&associated[..], &text, &tag[..]].concat()
}

/// Addresses of one family.
pub(crate) fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses {
        source_mac: Mac([0x02, 0, 0, 0, 0, 0x01]),
        destination_mac: Mac([0x02, 0, 0, 0, 0, 0x02]),
        source_ip: source.parse::<IpAddr>().expect("an address"),
        destination_ip: destination.parse::<IpAddr>().expect("an address"),
        source_port: 30_303,
        destination_port: 30_304,
    }
}

fn framed(addresses: &Addresses) -> Vec<u8> {
    let payload = sealed();
    let mut frame = vec![0; headers_bytes(&addresses.source_ip) + payload.len()];
    let start = write_headers(addresses, payload.len(), &mut frame).expect("it fits");
    frame[start..].copy_from_slice(&payload);
    fill_udp6_checksum(&mut frame);
    frame
}

pub(crate) fn vectors() -> Vec<Vector> {
    assert_eq!(sealed().len(), FRAME_HEADER_BYTES + message().len() + TAG_BYTES);
    assert_eq!(header().view, View(41));
    vec![
        Vector::new("header", frame_header().to_bytes())
            .from("key_phase", 1)
            .from("core", 2)
            .from("class", "consensus (0)")
            .from("session", "0x1122334455667788")
            .from("sequence", "0x01020304"),
        Vector::new("iv", counting::<12>(0xc0)),
        Vector::new("nonce", nonce(&counting(0xc0), 0x0102_0304))
            .from("iv", "frame/iv")
            .from("sequence", "0x01020304"),
        Vector::new("message", message()).from("pull_certificate_view", 41),
        Vector::new("sealed", sealed())
            .from("aead", "AES-256-GCM")
            .from("key", hex::encode(KEY))
            .from("nonce", "frame/nonce")
            .from("associated_data", "frame/header")
            .from("plaintext", "frame/message"),
        Vector::new("udp4", framed(&addresses("192.0.2.1", "192.0.2.2")))
            .from("source", "02:00:00:00:00:01 192.0.2.1:30303")
            .from("destination", "02:00:00:00:00:02 192.0.2.2:30304")
            .from("payload", "frame/sealed"),
        Vector::new("udp6", framed(&addresses("2001:db8::1", "2001:db8::2")))
            .from("source", "02:00:00:00:00:01 [2001:db8::1]:30303")
            .from("destination", "02:00:00:00:00:02 [2001:db8::2]:30304")
            .from("payload", "frame/sealed"),
    ]
}
