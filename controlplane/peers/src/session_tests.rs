//! Session keys: separation, phases, known answers, and stamps that never repeat.

use super::*;

fn session(index: u16, boot: u64) -> SessionId {
    SessionId::new(index, BootStamp::new(boot).unwrap())
}

fn chain(byte: u8) -> KeyChain {
    KeyChain::new(Zeroizing::new([byte; 32]))
}

#[test]
fn each_phase_has_keys_of_its_own_and_both_ends_have_the_same() {
    let (mut one, mut other) = (chain(1), chain(1));
    let mut seen = Vec::new();
    for phase in 0..=255u8 {
        assert_eq!(one.phase(), phase);
        let keys = one.keys();
        assert!(keys == other.keys());
        assert!(!seen.contains(&(keys.key, keys.iv)));
        seen.push((keys.key, keys.iv));
        if phase < 255 {
            (one, other) = (one.next().unwrap(), other.next().unwrap());
        }
    }
    assert!(one.next().is_none());
    assert!(chain(1).keys() != chain(2).keys());
}

#[test]
fn the_exporters_context_tells_directions_sessions_and_cores_apart() {
    let contexts = [
        exporter_context(0, 1, session(0, 5), 0),
        exporter_context(1, 0, session(0, 5), 0),
        exporter_context(0, 1, session(0, 6), 0),
        exporter_context(0, 1, session(0, 5), 1),
    ];
    for (at, one) in contexts.iter().enumerate() {
        assert!(contexts[..at].iter().all(|other| other != one));
    }
}

#[test]
fn names_grow_and_keep_their_owner() {
    let mut names = SessionNames::new(7, BootStamp::new(1_000).unwrap());
    let ids: Vec<SessionId> = (0..4).map(|_| names.next_id()).collect();
    assert!(ids.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(ids.iter().all(|id| id.sender_index() == 7));
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
    let text = |keys: FrameKeys| format!("{}{}", hex::encode(keys.key), hex::encode(keys.iv));
    // From an independent implementation of RFC 5869 and the derivation above.
    assert_eq!(
        text(chain(1).keys()),
        "a39c97a7983a32c99e5778d2c0d714fab81f15d7da6879422fcaa9ff3587533dd357048f06c7530871a76ea3"
    );
    assert_eq!(
        text(chain(1).next().unwrap().keys()),
        "51bb45e87eb77b856434c96c9d2ba7d5f31f88172938b3c24a9d30c74afa59b6c0a45973f1419ea174624d48"
    );
}
