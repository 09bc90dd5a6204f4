//! Session keys: agreement, separation, known answers, and boot stamps that never repeat.

use super::*;
use crate::membership::tests::{client, membership};

const GENESIS: Hash32 = Hash32([9; 32]);

fn deriver(seed: u8, genesis: &Hash32) -> KeyDeriver {
    let members = membership(2, &[client(0x8001, 50)]).unwrap();
    KeyDeriver::new(&NodeIdentity::from_seed(&[seed; 32]), &members, genesis).unwrap()
}

fn session(index: u16, boot: u64) -> SessionId {
    SessionId::new(index, BootStamp::new(boot).unwrap())
}

#[test]
fn both_ends_derive_the_same_keys() {
    let (first, second, client) = (deriver(1, &GENESIS), deriver(2, &GENESIS), deriver(50, &GENESIS));
    assert_eq!((first.own_index(), second.own_index(), client.own_index()), (0, 1, 0x8001));
    let of_first = session(0, 1_000);
    assert!(first.sending(1, of_first, 3, 4).unwrap() == second.receiving(0, of_first, 3, 4).unwrap());
    let of_client = session(0x8001, 1_000);
    assert!(client.sending(0, of_client, 0, 0).unwrap() == first.receiving(2, of_client, 0, 0).unwrap());
}

#[test]
fn any_difference_gives_different_keys() {
    let (first, second) = (deriver(1, &GENESIS), deriver(2, &GENESIS));
    let other_chain = deriver(1, &Hash32([8; 32]));
    let keys = [
        first.sending(1, session(0, 1_000), 0, 0),
        first.sending(1, session(0, 1_001), 0, 0),
        first.sending(1, session(0, 1_000), 1, 0),
        first.sending(1, session(0, 1_000), 0, 1),
        first.sending(2, session(0, 1_000), 0, 0),
        second.sending(0, session(1, 1_000), 0, 0),
        other_chain.sending(1, session(0, 1_000), 0, 0),
    ]
    .map(Option::unwrap);
    for (at, one) in keys.iter().enumerate() {
        for other in &keys[..at] {
            assert_ne!(one.key, other.key);
            assert_ne!(one.iv, other.iv);
        }
    }
}

#[test]
fn nobody_derives_keys_of_a_session_that_is_not_the_senders() {
    let first = deriver(1, &GENESIS);
    assert!(first.sending(1, session(1, 1_000), 0, 0).is_none(), "not this node's session");
    assert!(first.receiving(1, session(0x8001, 1_000), 0, 0).is_none(), "another peer's session");
    assert!(first.sending(0, session(0, 1_000), 0, 0).is_none(), "to itself");
    assert!(first.sending(3, session(0, 1_000), 0, 0).is_none(), "nobody there");
}

#[test]
fn sessions_are_admitted_from_known_peers_and_never_back_in_time() {
    let first = deriver(1, &GENESIS);
    let admitted = first.admit(session(0x8001, 1_000)).unwrap();
    assert_eq!((admitted.slot, admitted.role, admitted.boot.milliseconds()), (2, Role::Client, 1_000));
    assert_eq!(first.admit(session(2, 1_000)), None, "unknown");
    assert_eq!(first.admit(session(0, 1_000)), None, "this node itself");
    // A forged id changes nothing; an accepted one ends what was before.
    assert!(first.admit(session(1, 9_000)).is_some());
    assert!(first.admit(session(1, 1_000)).is_some());
    first.accept(session(1, 2_000));
    first.accept(session(1, 1_500));
    first.accept(session(77, 1_500));
    assert_eq!(first.admit(session(1, 1_999)), None);
    assert!(first.admit(session(1, 2_000)).is_some());
    assert!(first.admit(session(1, 2_001)).is_some());
}

#[test]
fn session_ids_hold_index_and_stamp() {
    let id = session(0xabcd, BOOT_STAMP_MAX);
    assert_eq!(id.0, 0xabcd_ffff_ffff_ffff);
    assert_eq!((id.sender_index(), id.boot().milliseconds()), (0xabcd, BOOT_STAMP_MAX));
    assert_eq!(BootStamp::new(BOOT_STAMP_MAX + 1), None);
}

#[test]
fn a_boot_stamp_never_repeats_even_when_the_clock_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("boot");
    let starts = [5_000, 5_000, 4_000, 6_000, 0];
    let stamps = starts.map(|now| BootStamp::next(&path, now).unwrap().milliseconds());
    assert_eq!(stamps, [5_000, 5_001, 5_002, 6_000, 6_001]);
    std::fs::write(&path, "soon").unwrap();
    assert!(matches!(BootStamp::next(&path, 7_000), Err(PeersError::StampFile { .. })));
    std::fs::write(&path, BOOT_STAMP_MAX.to_string()).unwrap();
    assert!(matches!(BootStamp::next(&path, 7_000), Err(PeersError::StampsExhausted(_))));
}

#[test]
fn known_answers() {
    let first = deriver(1, &GENESIS);
    let keys = |slot, core, phase| {
        let keys = first.sending(slot, session(0, 0x0123_4567_89ab), core, phase).unwrap();
        format!("{}{}", hex::encode(keys.key), hex::encode(keys.iv))
    };
    // From an independent implementation of RFC 7748, RFC 5869 and the derivation above.
    assert_eq!(
        keys(1, 0, 0),
        "27123462bb0316df9aeb9613d9257e4a9bf47f06d4f8801943f0795ec9872e261d35de086e44d02edb6b6bde"
    );
    assert_eq!(
        keys(2, 7, 1),
        "a5a81ca5be84ac79d6363180f57c01f808c5f04ceaf06b8a3179caf9d48e0760a546af3a3024e86470aad53f"
    );
}
