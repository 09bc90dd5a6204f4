//! Everything a validator refuses, each counted by the counter that names the reason, and none without a counter.

mod common;

use common::*;
use proptest::prelude::*;
use roko_pipeline::Depths;
use roko_pipeline::filter::RateLimit;
use roko_pipeline::open::PeerRates;
use roko_pipeline::peer::{KnownChange, PeerLink};
use roko_wire::ethereum::{Envelope, EthereumTx, SignedEthereum, wire};
use roko_wire::{ValidatorIndex, nano::ClockSource};

/// Sends one frame to a fresh validator and expects the counter to show it.
fn expect(stage: &str, label: &str, make: impl FnOnce(&PeerLink) -> Vec<u8>) {
    let mut node = Lone::new();
    let frame = make(&link(2, 0));
    node.send_raw(&[frame]);
    node.settle();
    assert_eq!(node.count(stage, label), 1, "{stage} {label}");
    assert_eq!(node.count("order", "inserted"), 0, "{stage} {label}");
}

fn client_frame(message: &[u8]) -> Vec<u8> {
    let link = link(2, 0);
    sealed(&mut sealer(&link), &link.addresses, message)
}

fn good() -> Vec<u8> {
    client_frame(&submit_message(&transfers(0..1, 0..1)))
}

#[test]
fn a_good_frame_is_pooled_once_and_its_copy_is_a_replay() {
    let mut node = Lone::new();
    node.send_raw(&[good(), good()]);
    node.settle();
    assert_eq!(node.count("order", "inserted"), 1);
    assert_eq!(node.count("open", "replayed"), 1);
    let seen = node.control.seen.pop().expect("the pooled transaction is reported");
    assert!(seen.own && seen.stamp.time >= START && seen.stamp.ingress == ValidatorIndex(0));
}

#[test]
fn frames_that_are_not_for_this_node_end_in_the_filter() {
    expect("filter", "truncated", |_| good()[..60].to_vec());
    expect("filter", "truncated", |_| vec![1, 2, 3]);
    expect("filter", "not_ip", |_| {
        let mut frame = good();
        frame[12] = 0x09;
        frame
    });
    expect("filter", "bad_checksum", |_| {
        let mut frame = good();
        frame[26] ^= 1;
        frame
    });
    let readdressed = |change: fn(&mut roko_wire::net::Addresses)| {
        move |link: &PeerLink| {
            let mut addresses = link.addresses;
            change(&mut addresses);
            sealed(&mut sealer(link), &addresses, &submit_message(&transfers(0..1, 0..1)))
        }
    };
    expect("filter", "wrong_address", readdressed(|a| a.destination_ip = "10.0.0.77".parse().unwrap()));
    expect("filter", "wrong_port", readdressed(|a| a.destination_port = 4001));
    expect("filter", "too_short", |link| sealed(&mut sealer(link), &link.addresses, &[]));
    expect("filter", "too_long", |link| sealed(&mut sealer(link), &link.addresses, &[1; 1417]));
}

#[test]
fn a_stranger_is_held_to_his_rate() {
    let mut node = Lone::new();
    let link = link(2, 0);
    let mut addresses = link.addresses;
    addresses.source_ip = "192.0.2.1".parse().unwrap();
    let mut sealer = sealer(&link);
    let frames: Vec<_> = (0..9).map(|_| sealed(&mut sealer, &addresses, &[1, 0])).collect();
    node.send_raw(&frames);
    node.turn();
    assert_eq!(node.count("filter", "rate_limited"), 4, "a burst of 5 passes");
}

#[test]
fn frames_of_no_session_or_a_forged_one_end_before_their_message_is_read() {
    expect("decode", "bad_header", |_| {
        let mut frame = good();
        frame[42] = 99;
        frame
    });
    expect("decode", "unknown_session", |link| {
        let mut link = link.clone();
        link.session = 0xdead;
        sealed(&mut sealer(&link), &link.addresses, &[1, 0])
    });
    expect("open", "bad_tag", |link| {
        let mut link = link.clone();
        link.keys.key[9] ^= 1;
        sealed(&mut sealer(&link), &link.addresses, &[1, 0])
    });
    expect("open", "bad_tag", |_| {
        let mut frame = good();
        let last = frame.len() - 20;
        frame[last] ^= 0x10;
        frame
    });
    expect("open", "unknown_kind", |_| client_frame(&[77, 0]));
    for kind in 2..=8 {
        expect("open", "wrong_role", |_| client_frame(&[kind, 0, 0]));
    }
    expect("open", "wrong_ingress", |_| {
        let link = link(1, 0);
        sealed(&mut sealer(&link), &link.addresses, &[2, 0, 0])
    });
}

#[test]
fn unknown_sessions_are_looked_up_a_few_a_poll() {
    let mut node = Lone::new();
    let link = link(2, 0);
    let frames: Vec<_> = (0..10u64)
        .map(|number| {
            let link = PeerLink { session: 0xdead_0000 + number, ..link.clone() };
            sealed(&mut sealer(&link), &link.addresses, &[1, 0])
        })
        .collect();
    node.send_raw(&frames);
    node.turn();
    assert_eq!(node.count("decode", "unknown_session"), 4);
    assert_eq!(node.count("decode", "admission_limited"), 6);
}

#[test]
fn a_newer_session_replaces_an_older_one_and_never_the_reverse() {
    let mut node = Lone::new();
    let mut sealers: Vec<_> = (1..=3).map(|generation| sealer(&link_of(2, 0, generation))).collect();
    let addresses = addresses(2, 0);
    let mut frame = |generation: usize, nonce: u64| {
        sealed(&mut sealers[generation - 1], &addresses, &submit_message(&transfers(0..1, nonce..nonce + 1)))
    };
    let recorded = frame(1, 0);
    let frames = [recorded.clone(), frame(2, 1), frame(1, 2), frame(3, 3), frame(2, 4)];
    for one in frames {
        node.send_raw(&[one]);
        node.settle();
    }
    assert_eq!((node.count("open", "opened"), node.count("decode", "established")), (5, 3));
    // The first session is no longer live: neither new frames of it nor recorded ones bring it back.
    for stale in [frame(1, 5), recorded] {
        node.send_raw(&[stale]);
        node.settle();
    }
    assert_eq!((node.count("open", "opened"), node.count("open", "stale_session")), (5, 2));
    // A forged frame of a newer session displaces nothing.
    let forged = PeerLink { keys: keys(1), ..link_of(2, 0, 9) };
    node.send_raw(&[sealed(&mut sealer(&forged), &addresses, &[1, 0]), frame(3, 6), frame(2, 7)]);
    node.settle();
    assert_eq!((node.count("open", "opened"), node.count("open", "bad_tag")), (7, 1));
}

#[test]
fn transactions_are_refused_by_rule() {
    let key = user(0);
    let one = |wire: Vec<u8>| client_frame(&submit_message(&[wire]));
    let changed = |change: fn(&mut roko_wire::tx::NativeTx<'_>)| {
        let mut tx = transfer(0);
        change(&mut tx);
        one(tx.sign_ed25519(&key))
    };
    let bad_signature = {
        let mut wire = transfer(0).sign_ed25519(&key);
        *wire.last_mut().unwrap() ^= 1;
        wire
    };
    expect("verify", "bad_signature", |_| one(bad_signature));
    expect("verify", "wrong_chain", |_| changed(|tx| tx.chain_id.0 += 1));
    expect("verify", "expired", |_| changed(|tx| tx.valid_until = START));
    expect("verify", "not_yet_valid", |_| changed(|tx| tx.valid_from = START.saturating_add(HOUR_NS / 2)));
    expect("verify", "bad_window", |_| changed(|tx| tx.valid_until = START.saturating_add(48 * HOUR_NS)));
    expect("verify", "fee_absurd", |_| changed(|tx| tx.max_fee = u128::MAX));
    expect("verify", "bad_gas", |_| changed(|tx| tx.gas_limit = 20_999));
    expect("verify", "malformed", |_| one(vec![0; 40]));
    expect("verify", "malformed", |_| one(vec![1, 2, 3]));
    let ethereum = |change: fn(&mut EthereumTx<'_>)| {
        let mut tx = ethereum_transfer(Envelope::Legacy, 0);
        change(&mut tx);
        one(wire(&tx.sign(&ethereum_user(0))))
    };
    expect("verify", "no_chain_id", |_| ethereum(|tx| tx.chain_id = None));
    expect("verify", "wrong_chain", |_| ethereum(|tx| tx.chain_id = Some(roko_wire::ChainId(1))));
    expect("verify", "bad_gas", |_| ethereum(|tx| tx.gas_limit = 20_999));
    // An s in the upper half of the group order (EIP-2).
    let high_s = {
        let raw = ethereum_transfer(Envelope::Legacy, 0).sign(&ethereum_user(0));
        let mut signed = SignedEthereum::parse(&raw).unwrap();
        signed.signature[32] = 0xf0;
        let mut altered = Vec::new();
        signed.write(&mut altered);
        wire(&altered)
    };
    expect("verify", "bad_signature", |_| one(high_s));

    expect("verify", "malformed_message", |_| client_frame(&[1, 3, 0]));
}

#[test]
fn ethereum_transactions_of_every_envelope_are_pooled_once() {
    let mut node = Lone::new();
    let link = link(2, 0);
    let mut sealer = sealer(&link);
    let wires = ethereum_transfers(0..1, 0..4);
    for _ in 0..2 {
        let frame = sealed(&mut sealer, &link.addresses, &submit_message(&wires));
        node.send_raw(&[frame]);
        node.settle();
    }
    assert_eq!((node.count("verify", "passed"), node.count("verify", "duplicate")), (4, 4));
    assert_eq!(node.count("order", "inserted"), 4);
    let sender = node.control.seen.pop().expect("the pooled transaction is reported").sender;
    let point = ethereum_user(0).verifying_key().to_sec1_point(false);
    let key = point.as_bytes()[1..].try_into().expect("x and y");
    assert_eq!(sender, roko_wire::account::address_of_secp256k1(key));
}

#[test]
fn a_duplicate_is_recognised_and_a_bad_one_does_not_hurt_its_neighbours() {
    let mut node = Lone::new();
    let link = link(2, 0);
    let mut sealer = sealer(&link);
    let mut wires = transfers(0..1, 0..5);
    *wires[2].last_mut().unwrap() ^= 1;
    let first = sealed(&mut sealer, &link.addresses, &submit_message(&wires));
    let again = sealed(&mut sealer, &link.addresses, &submit_message(&wires));
    node.send_raw(&[first, again]);
    node.settle();
    let counts = ["passed", "bad_signature", "duplicate"].map(|label| node.count("verify", label));
    assert_eq!(counts, [4, 2, 4]);
    assert_eq!(node.count("order", "inserted"), 4);
}

#[test]
fn a_batch_needs_its_ingress_signature_and_keeps_its_good_transactions() {
    let link = link(1, 0);
    let mut node = Lone::new();
    let mut sealer = sealer(&link);
    let mut wires = transfers(0..1, 0..5);
    *wires[4].last_mut().unwrap() ^= 1;
    let forged = sealed(&mut sealer, &link.addresses, &batch(&wires, 0));
    let frames = [forged, sealed(&mut sealer, &link.addresses, &batch(&wires, 1))];
    node.send_raw(&frames);
    node.settle();
    assert_eq!((node.count("verify", "bad_root"), node.count("verify", "bad_signature")), (1, 1));
    assert_eq!(node.count("order", "inserted"), 4);
    let seen = node.control.seen.pop().expect("it is reported");
    assert!(!seen.own && seen.stamp.source == ClockSource::Ptp.into() && seen.received > seen.stamp.time);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_panics_and_every_frame_is_accounted_for(
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        changes in prop::collection::vec((0usize..400, any::<u8>(), 0usize..3), 1..40),
    ) {
        let mut node = Lone::new();
        let link = link(1, 0);
        let mut sealer = sealer(&link);
        let messages = [
            submit_message(&transfers(0..1, 0..1)),
            batch(&transfers(1..2, 0..1), 1),
            vec![5, 0, 0, 0],
        ];
        let mut frames = garbage;
        for (at, mask, message) in changes {
            // The change falls on the network headers, our header, the message before sealing, or the tag.
            let mut message = messages[message].clone();
            if at % 2 == 0 {
                let place = at % message.len();
                message[place] ^= mask;
            }
            let mut frame = sealed(&mut sealer, &link.addresses, &message);
            if at % 2 == 1 {
                let place = at % frame.len();
                frame[place] ^= mask;
            }
            frames.push(frame);
        }
        node.send_raw(&frames);
        node.settle();
        let sum = |node: &Lone, stage: &str, skip: &[&str]| -> u64 {
            let metrics = node.control.metrics.iter().find(|metrics| metrics.stage() == stage).unwrap();
            metrics.counters().filter(|(label, _)| !skip.contains(label)).map(|(_, value)| value).sum()
        };
        let sent = frames.len() as u64;
        prop_assert_eq!(node.count("rx", "passed"), sent);
        prop_assert_eq!(sum(&node, "filter", &[]), sent);
        prop_assert_eq!(sum(&node, "decode", &["admitted", "established"]), node.count("filter", "passed"));
        // "opened" counts what the passed and dropped counters split.
        prop_assert_eq!(sum(&node, "open", &["opened"]), node.count("decode", "passed"));
        let mut control = 0;
        while node.control.frames.pop().is_some() {
            control += 1;
        }
        prop_assert_eq!(control, node.count("open", "passed_control"));
    }
}

/// Kinds of messages that the control thread gets, one byte each: nothing reads further before it.
const VOTE: u8 = 4;
const CHUNK: u8 = 6;

#[test]
fn what_an_authentic_frame_is_refused_for_is_counted_for_its_sender() {
    let mut node = Lone::new();
    let validator = link(1, 0);
    let client = link(2, 0);
    let (mut of_validator, mut of_client) = (sealer(&validator), sealer(&client));
    let mut frames = vec![
        sealed(&mut of_validator, &validator.addresses, &[77]),
        sealed(&mut of_validator, &validator.addresses, &[2, 0, 0]),
        sealed(&mut of_validator, &validator.addresses, &[1, 99]),
        sealed(&mut of_client, &client.addresses, &[VOTE]),
        sealed(&mut of_client, &client.addresses, &[77]),
    ];
    // Nobody answers for a replay or a forged seal: anyone who overhears a frame can send it.
    frames.push(frames[0].clone());
    let mut forged = sealed(&mut of_validator, &validator.addresses, &[VOTE]);
    *forged.last_mut().expect("a tag") ^= 1;
    frames.push(forged);
    node.send_raw(&frames);
    node.settle();
    let all = |peer: usize| -> Vec<(&str, u64)> {
        let metrics = node.control.refused_by_peer.iter();
        let counts = metrics.flat_map(|metrics| {
            metrics.labels().iter().enumerate().map(move |(at, label)| (*label, metrics.value(peer, at)))
        });
        counts.filter(|(_, count)| *count > 0).collect()
    };
    assert_eq!(all(1), [("unknown_kind", 1), ("wrong_ingress", 1), ("bad_message", 1)]);
    assert_eq!(all(2), [("unknown_kind", 1), ("wrong_role", 1)]);
    assert_eq!((node.count("open", "replayed"), node.count("open", "bad_tag")), (1, 1));
}

#[test]
fn one_peers_flood_takes_no_others_place() {
    let depths = Depths::default();
    let rates = PeerRates::for_rings(depths.to_control, depths.to_verify);
    // As good as no time goes by: how much there is at once is the question.
    let slow = |rate: RateLimit| RateLimit { frames_per_second: 1, ..rate };
    let (consensus, chunks) = (slow(rates.consensus), slow(rates.chunks));
    let mut node = Lone::with_rates(PeerRates { consensus, chunks, ..rates });
    let flooder = link(1, 0);
    let mut sealer = sealer(&flooder);
    for kind in [VOTE, CHUNK] {
        for _ in 0..depths.to_control / 64 {
            let frames: Vec<_> = (0..64).map(|_| sealed(&mut sealer, &flooder.addresses, &[kind])).collect();
            node.send_raw(&frames);
            node.settle();
        }
    }
    let (votes, chunks) = (node.count("open", "over_rate"), node.count("open", "chunk_over_rate"));
    assert!(votes > 0 && chunks > 0, "{votes} {chunks}");
    assert_eq!(node.count("open", "dropped_vote") + node.count("open", "dropped_chunk"), 0);
    let passed = node.count("open", "passed_control");
    assert!(passed < depths.to_control as u64, "{passed}: there is room for others");
    assert_eq!(passed + votes + chunks, 2 * depths.to_control as u64, "each is accounted for");
}

#[test]
fn an_address_that_is_banned_has_a_strangers_rate_until_it_is_readmitted() {
    let mut node = Lone::new();
    let peer = link(1, 0);
    let mut sealer = sealer(&peer);
    let mut send = |node: &mut Lone, count: u64| {
        let frames: Vec<_> = (0..count).map(|_| sealed(&mut sealer, &peer.addresses, &[VOTE])).collect();
        node.send_raw(&frames);
        node.settle();
        node.count("filter", "rate_limited")
    };
    assert_eq!(send(&mut node, 20), 0);
    let ip = peer.addresses.source_ip;
    assert!(node.control.sessions.known.push(KnownChange::Banned(ip)).is_ok());
    let limited = send(&mut node, 20);
    assert!((10..=15).contains(&limited), "a burst of 5, and what a busy machine lets pass later: {limited}");
    assert!(node.control.sessions.known.push(KnownChange::Readmitted(ip)).is_ok());
    assert_eq!(send(&mut node, 20), limited);
}
