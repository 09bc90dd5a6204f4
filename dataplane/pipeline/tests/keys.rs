//! Keys come, change and go while frames come and go: no frame is lost at a change, nothing old is opened, and the poll
//! thread allocates nothing.

mod common;

use common::*;
use roko_os::alloc_count::{CountingAllocator, allocations_on_this_thread};
use roko_pipeline::keys::KeyCommand;
use roko_pipeline::peer::{KeyLimits, KeyName, KnownChange, LinkCommand, PeerIndex, PeerLink, Role, Worn};
use roko_pipeline::session::{AeadKeys, Sealer};
use roko_pipeline::spread::{MessageBytes, SpreadCommand, Target};
use roko_wire::codec::Reader;
use roko_wire::frame::{FRAME_HEADER_BYTES, FrameHeader, PriorityClass};
use roko_wire::net::parse_udp;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const CLIENT: PeerIndex = PeerIndex(2);

fn key(session: u64, phase: u8) -> (KeyName, AeadKeys) {
    (KeyName { session, core: 0, phase }, AeadKeys { key: [phase; 32], iv: [session as u8; 12] })
}

fn install(session: u64, phase: u8, generation: u64) -> KeyCommand {
    let (name, keys) = key(session, phase);
    KeyCommand::Install { peer: CLIENT, role: Role::Client, name, generation, keys }
}

fn retire(session: u64, phase: u8) -> KeyCommand {
    KeyCommand::Retire { peer: CLIENT, name: key(session, phase).0 }
}

fn sealer_of(session: u64, phase: u8) -> Sealer {
    Sealer::new(&key(session, phase).1, session, 0, phase)
}

fn submit(sealer: &mut Sealer, nonce: u64) -> Vec<u8> {
    sealed(sealer, &addresses(2, 0), &submit_message(&transfers(0..1, nonce..nonce + 1)))
}

#[test]
fn a_phase_takes_over_from_another_without_losing_a_frame() {
    let (mut node, mut keys) = Lone::with_keys();
    let (mut first, mut second) = (sealer_of(9, 0), sealer_of(9, 1));
    let unknown = submit(&mut first, 0);
    node.send_raw(&[unknown]);
    node.settle();
    assert_eq!(node.count("decode", "unknown_session"), 1, "no handshake has agreed on it yet");
    assert!(keys.push(install(9, 0, 1)).is_ok() && keys.push(install(9, 1, 2)).is_ok());
    // Frames of both phases overtake each other.
    let old = submit(&mut first, 1);
    let frames = [submit(&mut first, 2), submit(&mut second, 3), old.clone(), submit(&mut second, 4)];
    let recorded = frames[0].clone();
    node.send_raw(&frames);
    node.settle();
    assert_eq!((node.count("open", "opened"), node.count("decode", "established")), (4, 2));
    // Each phase has a replay window of its own.
    node.send_raw(&[old, frames[3].clone()]);
    node.settle();
    assert_eq!(node.count("open", "replayed"), 2);
    // Once the old phase is forgotten, neither a recording nor a new frame of it opens.
    assert!(keys.push(retire(9, 0)).is_ok());
    node.settle();
    node.send_raw(&[submit(&mut first, 5), recorded, submit(&mut second, 6)]);
    node.settle();
    assert_eq!((node.count("open", "opened"), node.count("decode", "unknown_session")), (5, 3));
}

#[test]
fn a_retired_key_is_gone_from_every_stage_even_with_a_frame_under_way() {
    let (mut node, mut keys) = Lone::with_keys();
    let mut sealer = sealer_of(9, 0);
    assert!(keys.push(install(9, 0, 1)).is_ok());
    let frames: Vec<Vec<u8>> = (0..4).map(|nonce| submit(&mut sealer, nonce)).collect();
    node.send_raw(&frames[..1]);
    node.settle();
    // The frame and the order to forget its key arrive in the same turn.
    node.send_raw(&frames[1..2]);
    assert!(keys.push(retire(9, 0)).is_ok());
    node.settle();
    let opened = node.count("open", "opened");
    let refused = node.count("open", "stale_session") + node.count("decode", "unknown_session");
    assert_eq!(opened + refused, 2);
    node.send_raw(&frames[2..]);
    node.settle();
    assert_eq!(node.count("open", "opened"), opened);
}

/// Frames that the node sends to the client, each by its header.
fn sent(node: &mut Lone) -> Vec<(FrameHeader, roko_wire::net::Addresses)> {
    let read = |frame: Vec<u8>| {
        let udp = parse_udp(&frame).expect("a frame of ours");
        let payload = &frame[udp.payload_at..][..FRAME_HEADER_BYTES];
        (FrameHeader::read(&mut Reader::new(payload)).expect("a header of ours"), udp.addresses)
    };
    received(&mut node.rx).into_iter().map(read).collect()
}

fn say(node: &mut Lone, times: usize) {
    for _ in 0..times {
        let message = MessageBytes::try_from(&[7, 0, 0, 0][..]).expect("it is short");
        let (to, class) = (Target::Peer(PeerIndex(1)), PriorityClass::Consensus);
        assert!(node.control.spread.push(SpreadCommand::Send { to, class, message, asked: START }).is_ok());
    }
    node.settle();
}

#[test]
fn a_worn_key_is_reported_once_and_an_address_changes_without_its_key() {
    let (mut node, _keys) = Lone::with_keys();
    let limits = KeyLimits { frames: 3, bytes: 1 << 30 };
    let link = PeerLink { limits, key_phase: 4, ..link(0, 1) };
    let role = role(1, 2);
    let session = link.session;
    let command = LinkCommand::Link { peer: PeerIndex(1), role, link: link.clone() };
    assert!(node.control.sessions.links.push(command).is_ok());
    say(&mut node, 2);
    assert_eq!(node.control.sessions.worn.pop(), None);
    say(&mut node, 3);
    assert_eq!(node.control.sessions.worn.pop(), Some(Worn { peer: PeerIndex(1), session, key_phase: 4 }));
    assert_eq!((node.control.sessions.worn.pop(), node.count("spread", "worn")), (None, 1));
    let mut elsewhere = link.addresses;
    elsewhere.destination_ip = "198.51.100.7".parse().expect("an address");
    elsewhere.destination_port = 4_444;
    let command = LinkCommand::Move { peer: PeerIndex(1), addresses: elsewhere };
    assert!(node.control.sessions.links.push(command).is_ok());
    say(&mut node, 1);
    let frames = sent(&mut node);
    let sequences: Vec<u64> = frames.iter().map(|(header, _)| header.sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4, 5], "the key goes on");
    assert!(frames.iter().all(|(header, _)| (header.session, header.key_phase) == (session, 4)));
    let at: Vec<_> = frames.iter().map(|(_, at)| (at.destination_ip, at.destination_port)).collect();
    assert_eq!(at[4], (link.addresses.destination_ip, 4_000));
    assert_eq!(at[5], (elsewhere.destination_ip, 4_444));
}

#[test]
fn a_peer_that_moved_is_known_at_its_new_address() {
    let (mut node, mut keys) = Lone::with_keys();
    assert!(keys.push(install(9, 0, 1)).is_ok());
    let mut from = addresses(2, 0);
    let before = from.source_ip;
    from.source_ip = "203.0.113.5".parse().expect("an address");
    let mut sealer = sealer_of(9, 0);
    let mut frames =
        |count: u64| -> Vec<Vec<u8>> { (0..count).map(|_| sealed(&mut sealer, &from, &[1, 0])).collect() };
    node.send_raw(&frames(9));
    node.settle();
    assert!(node.count("filter", "rate_limited") > 0, "a stranger's rate");
    let limited = node.count("filter", "rate_limited");
    assert!(
        node.control.sessions.known.push(KnownChange::Moved { from: before, to: from.source_ip }).is_ok()
    );
    node.send_raw(&frames(40));
    node.settle();
    assert_eq!(node.count("filter", "rate_limited"), limited);
}

#[test]
fn changes_of_keys_and_addresses_allocate_nothing_on_the_poll_thread() {
    let (mut node, mut keys) = Lone::with_keys();
    let mut allocated = 0;
    // The first rounds fill tables and pools; the session changes every hundred phases.
    for round in 0..400u64 {
        let (session, phase) = (9 + round / 100, (round % 100) as u8);
        let mut sealer = sealer_of(session, phase);
        let frames: Vec<Vec<u8>> = (0..2).map(|_| sealed(&mut sealer, &addresses(2, 0), &[77])).collect();
        assert!(keys.push(install(session, phase, round + 1)).is_ok());
        if round > 1 {
            let old = round - 2;
            assert!(keys.push(retire(9 + old / 100, (old % 100) as u8)).is_ok());
        }
        let link = PeerLink { key_phase: phase, session, ..link(0, 1) };
        let addresses = link.addresses;
        let command = LinkCommand::Link { peer: PeerIndex(1), role: role(1, 2), link };
        assert!(node.control.sessions.links.push(command).is_ok());
        let command = LinkCommand::Move { peer: PeerIndex(1), addresses };
        assert!(node.control.sessions.links.push(command).is_ok());
        let ip = |last: u64| core::net::IpAddr::from([198, 51, 100, (last % 250) as u8]);
        let from = if round == 0 { common::addresses(1, 0).source_ip } else { ip(round - 1) };
        assert!(node.control.sessions.known.push(KnownChange::Moved { from, to: ip(round) }).is_ok());
        node.send_raw(&frames);
        for _ in 0..20 {
            let before = allocations_on_this_thread();
            node.turn();
            allocated += if round < 10 { 0 } else { allocations_on_this_thread() - before };
        }
    }
    assert_eq!(node.count("open", "unknown_kind"), 800, "every frame opens");
    assert_eq!(allocated, 0, "400 keys");
}
