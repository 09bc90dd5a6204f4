//! What the fuzz targets run on bytes, shared with the test that replays their corpus. Each panics when a rule of the
//! wire is broken: an accepted input has one encoding, and no input makes the code panic.
#![allow(dead_code, reason = "each fuzz target runs one of these functions")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use roko_wire::block::{BodyView, Header};
use roko_wire::codec::Reader;
use roko_wire::frame::FrameHeader;
use roko_wire::genesis::Genesis;
use roko_wire::host_frame::host_frame;
use roko_wire::ids::ChainId;
use roko_wire::limits::RANGE_ACCOUNTS_MAX;
use roko_wire::message::Message;
use roko_wire::net::{fill_udp6_checksum, parse_udp, write_headers};
use roko_wire::sync::SyncMessage;
use roko_wire::tx::{self, Authorization, ParsedTx};
use roko_wire::vlan::{VLAN_TAG_BYTES, put_tag_on, take_tag_off, vlan_of};
use roko_wire::{BlockId, Hash32};

/// What a fuzz target runs on its bytes.
pub(crate) type Target = fn(&[u8]);

/// The targets by name.
pub(crate) const TARGETS: [(&str, Target); 7] = [
    ("message", message),
    ("frame_net", frame_net),
    ("tx", tx),
    ("body", body),
    ("genesis", genesis),
    ("header", header),
    ("sync", sync),
];

/// The host that [`host_frame`] is asked about, of either version.
const HOSTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))];

/// A message out of an opened frame: what is accepted is written back byte for byte.
pub(crate) fn message(bytes: &[u8]) {
    let Ok(read) = Message::read(bytes) else { return };
    let mut written = Vec::new();
    read.write(&mut written);
    assert_eq!(written, bytes, "a message has one encoding");
    assert!(Message::read(&bytes[..bytes.len() - 1]).is_err(), "a shorter message is none");
    match read {
        Message::Submit(txs) => txs.iter().for_each(|wire| tx(wire)),
        Message::Batch(batch) => {
            let ids: Vec<_> = batch.txs.iter().map(|stamped| tx::tx_id(stamped.wire)).collect();
            let leaves = batch.leaves(ChainId(1), &ids);
            assert_eq!(batch.signed_root(&leaves).leaves as usize, leaves.len());
            batch.txs.iter().for_each(|stamped| tx(stamped.wire));
        }
        Message::Propose(propose) => assert_ne!(propose.header.id(), BlockId::ZERO),
        Message::Chunk(chunk) => {
            let mut written = Vec::new();
            propose_header(chunk.data.len()).write(&mut written);
            let header = Header::read(&mut Reader::new(&written)).expect("its own bytes");
            let _ = chunk.belongs_to(&header);
        }
        Message::Certificate(certificate) => {
            assert_eq!(certificate.signers.iter().count(), certificate.signers.len());
        }
        Message::Vote(_) | Message::PullBlock(_) | Message::PullCertificate(_) => {}
    }
}

fn propose_header(body_bytes: usize) -> Header {
    let zero = Hash32::ZERO;
    Header {
        chain_id: ChainId(1),
        epoch: Default::default(),
        view: Default::default(),
        height: Default::default(),
        parent: BlockId::ZERO,
        justification_hash: zero,
        proposer: Default::default(),
        time: Default::default(),
        watermark: Default::default(),
        tx_root: zero,
        chunk_root: zero,
        body_bytes: body_bytes as u32,
        tx_count: 0,
        parent_state_root: zero,
        parent_receipts_root: zero,
        gas_limit: 0,
        base_fee: 0,
        next_set_root: None,
    }
}

/// A frame off the network: addresses and payload are written back to the same parse, and the clear header to the same
/// bytes.
pub(crate) fn frame_net(bytes: &[u8]) {
    if let Some(vlan) = vlan_of(bytes) {
        tagged(bytes, vlan);
    }
    let asked = HOSTS.iter().any(|own| host_frame(bytes, own).is_some());
    assert!(!asked || parse_udp(bytes).is_err(), "what the host answers is no datagram for the pipeline");
    let Ok(parsed) = parse_udp(bytes) else { return };
    let end = parsed.payload_at + parsed.payload_bytes;
    let payload = &bytes[parsed.payload_at..end];
    assert!(parse_udp(&bytes[..end - 1]).is_err(), "a cut frame is none");
    let mut written = vec![0; end];
    let start = write_headers(&parsed.addresses, payload.len(), &mut written).expect("it came in one frame");
    assert_eq!(start, parsed.payload_at);
    written[start..].copy_from_slice(payload);
    fill_udp6_checksum(&mut written);
    assert_eq!(parse_udp(&written), Ok(parsed), "what is written is read");
    let mut reader = Reader::new(payload);
    if let Ok(header) = FrameHeader::read(&mut reader) {
        assert_eq!(header.to_bytes()[..], payload[..payload.len() - reader.rest().len()]);
    }
}

/// A frame of a virtual LAN: the parser takes none with its tag, taking the tag off needs the right number, and putting it on
/// again gives the same frame but for the priority.
fn tagged(bytes: &[u8], vlan: u16) {
    assert!(parse_udp(bytes).is_err(), "a port of no virtual LAN takes none of its frames");
    let mut frame = bytes.to_vec();
    assert!(!take_tag_off(&mut frame, vlan ^ 1));
    assert_eq!(frame, bytes);
    assert!(take_tag_off(&mut frame, vlan));
    frame_net(&frame[VLAN_TAG_BYTES..]);
    put_tag_on(&mut frame, vlan);
    frame[14] = bytes[14];
    assert_eq!(frame, bytes);
}

/// A transaction's wire bytes: layout and signature are written back byte for byte, and verifying never panics.
pub(crate) fn tx(wire: &[u8]) {
    let id = tx::tx_id(wire);
    match tx::parse(wire) {
        Ok(ParsedTx::Native(native)) => {
            let mut written = Vec::new();
            match native.authorization {
                Authorization::Ed25519 { public_key, signature } => {
                    native.tx.write(0, &mut written);
                    written.extend(public_key);
                    written.extend(signature);
                }
                Authorization::Secp256k1 { signature } => {
                    native.tx.write(1, &mut written);
                    written.extend(signature);
                }
            }
            assert_eq!(written, wire, "a transaction has one encoding");
            assert_eq!(native.verify(), native.verify());
            let terms = native.tx.terms();
            let _ = terms.cost_max();
            assert!(terms.intrinsic_gas >= 21_000 && terms.chain_id.is_some() && terms.window.is_some());
        }
        Ok(ParsedTx::Ethereum(ethereum)) => {
            assert_eq!((ethereum.raw, wire[0]), (&wire[1..], tx::KIND_ETHEREUM));
            let mut written = Vec::new();
            ethereum.write(&mut written);
            assert_eq!(written, wire[1..], "an Ethereum transaction has one encoding");
            assert!(
                tx::parse(&wire[1..]).is_err() || tx::tx_id(&wire[1..]) != id,
                "two transactions share an id"
            );
            assert_eq!(ethereum.verify(), ethereum.verify());
            let items: Vec<_> = ethereum.tx.items().collect();
            assert_eq!(items.len(), usize::from(ethereum.tx.access_items));
            assert_eq!(
                items.iter().map(|item| item.keys().len()).sum::<usize>(),
                ethereum.tx.access_keys as usize
            );
            let terms = ethereum.tx.terms();
            let _ = terms.cost_max();
            assert!(terms.intrinsic_gas >= 21_000 && terms.window.is_none());
        }
        Err(_) => {}
    }
}

/// A body's archive: what is accepted can be walked, and its arrays are used up exactly.
pub(crate) fn body(bytes: &[u8]) {
    let Ok(view) = BodyView::access(bytes) else { return };
    let mut count = 0;
    for entry in view.entries() {
        assert!(entry.batch < view.batch_count());
        let root = view.batch(entry.batch).expect("checked on access");
        assert_eq!(root.ingress, entry.stamp.ingress);
        assert!(roko_wire::vote::Bitmap::default().insert(entry.stamp.ingress));
        let path: Vec<Hash32> = entry.path.iter().map(|hash| Hash32(*hash)).collect();
        let leaf = entry.stamp.leaf(ChainId(1), &tx::tx_id(entry.wire));
        let _ = roko_wire::merkle::root_from_path(leaf, entry.leaf_index, usize::from(root.leaves), &path);
        count += 1;
    }
    assert_eq!(count, view.len());
}

/// A genesis file: what is accepted is written to a file with the same meaning and hash.
pub(crate) fn genesis(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let Ok(read) = Genesis::parse(text) else { return };
    let again = Genesis::parse(&read.to_json()).expect("its own text");
    assert_eq!(again, read);
    assert_eq!((again.hash(), again.block_id()), (read.hash(), read.block_id()));
    assert!(read.supply().is_some());
}

/// A header's canonical layout.
pub(crate) fn header(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(read) = Header::read(&mut reader) else { return };
    let used = bytes.len() - reader.rest().len();
    let mut written = Vec::new();
    read.write(&mut written);
    assert_eq!(written, bytes[..used], "a header has one encoding");
    assert!(Header::read(&mut Reader::new(&bytes[..used - 1])).is_err(), "a shorter header is none");
}

/// A message of a catch-up: what is accepted is written back byte for byte.
pub(crate) fn sync(bytes: &[u8]) {
    let Ok(read) = SyncMessage::read(bytes) else { return };
    let mut written = Vec::new();
    read.write(&mut written);
    assert_eq!(written, bytes, "a message has one encoding");
    assert!(SyncMessage::read(&bytes[..bytes.len() - 1]).is_err(), "a shorter message is none");
    match read {
        SyncMessage::Block(block) => assert_eq!(block.body.len(), block.header.body_bytes as usize),
        SyncMessage::Snapshot(anchor) => assert!(anchor.headers.len() >= 2),
        SyncMessage::Range(range) => {
            assert!(range.siblings.len() <= 256 && range.accounts.len() <= RANGE_ACCOUNTS_MAX);
        }
        _ => {}
    }
}
