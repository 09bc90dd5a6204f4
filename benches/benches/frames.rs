//! Sealing and opening frames, as spread and open do it (AES-256-GCM by the crate `aes-gcm`, in place), beside ring and
//! aws-lc-rs doing the same on the same bytes with the same key.
//!
//! A frame of so many bytes is the whole datagram: header, sealed message, tag. What the stages do around the seal is in
//! the first case only: the header is written, the nonce derived, the sequence counted. Opening leaves the message where
//! the sealed one was, so each iteration opens a fresh copy; that copy is in every case.
//!
//! Over IPv6 a datagram needs a checksum too: what it costs a core, and what is left where the card fills it in.

use aws_lc_rs::aead as aws;
use core::net::{IpAddr, Ipv6Addr};
use ring::aead as rings;
use roko_benches::fixtures::Noise;
use roko_benches::{Comparison, Report};
use roko_pipeline::session::{AeadKeys, Opener, SEAL_BYTES, Sealer};
use roko_wire::frame::{FRAME_HEADER_BYTES, PriorityClass, TAG_BYTES, nonce};
use roko_wire::net::{Addresses, Mac, begin_udp6_checksum, fill_udp6_checksum, headers_bytes, write_headers};

/// The larger is a chunk's frame, nearly; the smaller one is below every message that is sent often: what a frame costs
/// whatever is in it.
const FRAMES_BYTES: [usize; 2] = [64, 1_400];
/// Frames an iteration seals or opens: a burst.
const BURST: usize = 32;
const SESSION: u64 = 9;

fn keys() -> AeadKeys {
    let mut noise = Noise(7);
    AeadKeys { key: noise.bytes(), iv: noise.bytes() }
}

fn burst(bytes: usize) -> Vec<Vec<u8>> {
    let mut noise = Noise(11);
    (0..BURST).map(|_| (0..bytes).map(|_| noise.next_number() as u8).collect()).collect()
}

fn sealed(bytes: usize) -> Vec<Vec<u8>> {
    let (mut sealer, mut frames) = (Sealer::new(&keys(), SESSION, 0, 0), burst(bytes));
    for frame in &mut frames {
        sealer.seal(PriorityClass::Block, frame).expect("a frame has room for its seal");
    }
    frames
}

/// What sealing by any of the three must give: the same bytes.
fn check_agreement(bytes: usize) {
    let (keys, wanted) = (keys(), sealed(bytes));
    let mut by_ring = burst(bytes);
    let mut by_aws = burst(bytes);
    let (ring, aws) = (ring_key(&keys), aws_key(&keys));
    for (sequence, frame) in wanted.iter().enumerate() {
        let header: [u8; FRAME_HEADER_BYTES] = frame[..FRAME_HEADER_BYTES].try_into().expect("a header");
        seal_by_ring(&ring, &keys, sequence as u64, &header, &mut by_ring[sequence]);
        seal_by_aws(&aws, &keys, sequence as u64, &header, &mut by_aws[sequence]);
    }
    assert!(wanted == by_ring && wanted == by_aws, "all three write the same frame");
}

fn ring_key(keys: &AeadKeys) -> rings::LessSafeKey {
    rings::LessSafeKey::new(rings::UnboundKey::new(&rings::AES_256_GCM, &keys.key).expect("32 bytes"))
}

fn aws_key(keys: &AeadKeys) -> aws::LessSafeKey {
    aws::LessSafeKey::new(aws::UnboundKey::new(&aws::AES_256_GCM, &keys.key).expect("32 bytes"))
}

fn seal_by_ring(
    key: &rings::LessSafeKey,
    keys: &AeadKeys,
    sequence: u64,
    header: &[u8; FRAME_HEADER_BYTES],
    frame: &mut [u8],
) {
    let (head, rest) = frame.split_at_mut(FRAME_HEADER_BYTES);
    let (message, tag_place) = rest.split_at_mut(rest.len() - TAG_BYTES);
    head.copy_from_slice(header);
    let nonce = rings::Nonce::assume_unique_for_key(nonce(&keys.iv, sequence));
    let tag = key.seal_in_place_separate_tag(nonce, rings::Aad::from(header), message).expect("it is short");
    tag_place.copy_from_slice(tag.as_ref());
}

fn seal_by_aws(
    key: &aws::LessSafeKey,
    keys: &AeadKeys,
    sequence: u64,
    header: &[u8; FRAME_HEADER_BYTES],
    frame: &mut [u8],
) {
    let (head, rest) = frame.split_at_mut(FRAME_HEADER_BYTES);
    let (message, tag_place) = rest.split_at_mut(rest.len() - TAG_BYTES);
    head.copy_from_slice(header);
    let nonce = aws::Nonce::assume_unique_for_key(nonce(&keys.iv, sequence));
    let tag = key.seal_in_place_separate_tag(nonce, aws::Aad::from(header), message).expect("it is short");
    tag_place.copy_from_slice(tag.as_ref());
}

fn seal(bytes: usize, criterion: &mut criterion::Criterion, report: &mut Report) {
    let keys = keys();
    let header: [u8; FRAME_HEADER_BYTES] =
        sealed(bytes)[0][..FRAME_HEADER_BYTES].try_into().expect("a header");
    let (ring, aws) = (ring_key(&keys), aws_key(&keys));
    let (mut own_frames, mut ring_frames, mut aws_frames) = (burst(bytes), burst(bytes), burst(bytes));
    let mut sealer = Sealer::new(&keys, SESSION, 0, 0);
    let (mut ring_sequence, mut aws_sequence) = (0, 0);
    Comparison::new(format!("frame_seal/bytes={bytes}"), BURST as u64)
        .call("roko_aes_gcm", || {
            for frame in &mut own_frames {
                sealer.seal(PriorityClass::Block, frame).expect("a frame has room for its seal");
            }
        })
        .call("ring", || {
            for frame in &mut ring_frames {
                seal_by_ring(&ring, &keys, ring_sequence, &header, frame);
                ring_sequence += 1;
            }
        })
        .call("aws_lc_rs", || {
            for frame in &mut aws_frames {
                seal_by_aws(&aws, &keys, aws_sequence, &header, frame);
                aws_sequence += 1;
            }
        })
        .run(criterion, report);
}

fn open(bytes: usize, criterion: &mut criterion::Criterion, report: &mut Report) {
    let (keys, frames) = (keys(), sealed(bytes));
    let (opener, ring, aws) = (Opener::new(&keys), ring_key(&keys), aws_key(&keys));
    let message_bytes = bytes - SEAL_BYTES;
    let (mut own_place, mut ring_place, mut aws_place) = (vec![0; bytes], vec![0; bytes], vec![0; bytes]);
    Comparison::new(format!("frame_open/bytes={bytes}"), BURST as u64)
        .call("roko_aes_gcm", || {
            for (sequence, frame) in frames.iter().enumerate() {
                own_place.copy_from_slice(frame);
                assert_eq!(opener.open(sequence as u64, &mut own_place), Some(message_bytes));
            }
        })
        .call("ring", || {
            for (sequence, frame) in frames.iter().enumerate() {
                ring_place.copy_from_slice(frame);
                let (header, sealed) = ring_place.split_at_mut(FRAME_HEADER_BYTES);
                let nonce = rings::Nonce::assume_unique_for_key(nonce(&keys.iv, sequence as u64));
                let message = ring.open_in_place(nonce, rings::Aad::from(&*header), sealed);
                assert_eq!(message.expect("it is authentic").len(), message_bytes);
            }
        })
        .call("aws_lc_rs", || {
            for (sequence, frame) in frames.iter().enumerate() {
                aws_place.copy_from_slice(frame);
                let (header, sealed) = aws_place.split_at_mut(FRAME_HEADER_BYTES);
                let nonce = aws::Nonce::assume_unique_for_key(nonce(&keys.iv, sequence as u64));
                let message = aws.open_in_place(nonce, aws::Aad::from(&*header), sealed);
                assert_eq!(message.expect("it is authentic").len(), message_bytes);
            }
        })
        .run(criterion, report);
}

/// What IPv6 demands of a datagram that carries a frame: its checksum by a core, and what is left to a core where the card does it.
fn checksum(bytes: usize, criterion: &mut criterion::Criterion, report: &mut Report) {
    let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let way = Addresses {
        source_mac: mac,
        destination_mac: mac,
        source_ip: ip,
        destination_ip: ip,
        source_port: 7_700,
        destination_port: 7_700,
    };
    let datagram = |payload: &Vec<u8>| {
        let mut frame = vec![0; headers_bytes(&ip) + bytes];
        let at = write_headers(&way, bytes, &mut frame).expect("it fits");
        frame[at..].copy_from_slice(payload);
        frame
    };
    let mut filled: Vec<Vec<u8>> = burst(bytes).iter().map(datagram).collect();
    let mut begun = filled.clone();
    Comparison::new(format!("frame_udp6_checksum/bytes={bytes}"), BURST as u64)
        .call("by_the_core", || filled.iter_mut().for_each(|frame| fill_udp6_checksum(frame)))
        .call("left_to_the_card", || {
            begun.iter_mut().for_each(|frame| assert!(begin_udp6_checksum(frame).is_some()));
        })
        .run(criterion, report);
}

fn main() {
    let mut report = Report::new("frames", "none; one core");
    let mut criterion = Report::criterion();
    for bytes in FRAMES_BYTES {
        check_agreement(bytes);
        seal(bytes, &mut criterion, &mut report);
        open(bytes, &mut criterion, &mut report);
        checksum(bytes, &mut criterion, &mut report);
    }
    report.finish(criterion);
}
