//! Bodies: read in place at any address, and robust against any change.

use crate::samples::{archive, body};
use proptest::collection::vec;
use proptest::prelude::*;
use roko_wire::block::{Body, BodyBatch, BodyError, BodyTx, BodyView};
use roko_wire::limits::{BLOCK_TXS_MAX, STAMP_DEPTH_MAX, TX_BYTES_MAX};

/// Everything that a view shows, owned.
type Shown = Vec<(u128, u128, u64, u8, u16, usize, usize, Vec<[u8; 32]>, Vec<u8>)>;

fn shown(view: &BodyView<'_>) -> Shown {
    view.entries()
        .map(|entry| {
            let stamp = entry.stamp;
            let (source, ingress) = (stamp.source.to_byte(), stamp.ingress.0);
            let (path, wire) = (entry.path.to_vec(), entry.wire.to_vec());
            (
                entry.moment.0,
                stamp.time.0,
                stamp.bound_ns,
                source,
                ingress,
                entry.batch,
                entry.leaf_index,
                path,
                wire,
            )
        })
        .collect()
}

fn bodies() -> impl Strategy<Value = Body> {
    let tx = (any::<[u64; 3]>(), 0u8..5, 0u8..=STAMP_DEPTH_MAX as u8, vec(any::<u8>(), 0..80));
    (vec(tx, 0..20), any::<u8>()).prop_map(|(txs, seed)| {
        let mut body = Body::default();
        for (index, ([moment, time, bound_ns], source, path_len, wire)) in txs.into_iter().enumerate() {
            if index % 3 == 0 {
                let ingress = u16::from(seed);
                body.batches.push(BodyBatch { ingress, leaves: 3, root: [seed; 32], signature: [seed; 64] });
            }
            body.txs.push(BodyTx {
                moment: moment.into(),
                stamp_time: time.into(),
                bound_ns,
                source,
                leaf_index: (index % 3) as u8,
                path_len,
                batch: body.batches.len() as u32 - 1,
                tx_len: wire.len() as u32,
            });
            body.paths.extend((0..path_len).map(|at| [at ^ seed; 32]));
            body.tx_bytes.extend(wire);
        }
        body
    })
}

/// `bytes` at address `offset` modulo 16, with what is before and after it.
fn at_offset<T>(bytes: &[u8], offset: usize, act: impl FnOnce(&[u8]) -> T) -> T {
    let mut room = vec![0xcc; bytes.len() + 32];
    let start = (offset + 16 - room.as_ptr() as usize % 16) % 16;
    room[start..start + bytes.len()].copy_from_slice(bytes);
    let placed = &room[start..start + bytes.len()];
    assert_eq!(placed.as_ptr() as usize % 16, offset);
    act(placed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_address_shows_the_same_entries(body in bodies()) {
        let bytes = archive(&body);
        let wanted: Vec<_> = body.txs.iter().map(|tx| (tx.moment, tx.stamp_time, tx.tx_len as usize)).collect();
        let first = shown(&BodyView::access(&bytes).expect("a body"));
        let short: Vec<_> = first.iter().map(|entry| (entry.0, entry.1, entry.8.len())).collect();
        prop_assert_eq!(short, wanted);
        prop_assert_eq!(first.iter().flat_map(|entry| entry.8.clone()).collect::<Vec<_>>(), body.tx_bytes);
        prop_assert_eq!(first.iter().flat_map(|entry| entry.7.clone()).collect::<Vec<_>>(), body.paths);
        for offset in 0..16 {
            at_offset(&bytes, offset, |placed| {
                let view = BodyView::access(placed).expect("a body at any address");
                assert_eq!(shown(&view), first, "offset {offset}");
                assert_eq!((view.batch_count(), view.is_empty()), (body.batches.len(), body.txs.is_empty()));
            });
        }
    }

    #[test]
    fn altered_bodies_never_panic(
        body in bodies(),
        alterations in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..12),
    ) {
        let mut bytes = archive(&body);
        for (at, value, near_the_end) in alterations {
            // The lengths and offsets of the archive stand in its last 32 bytes.
            let span = if near_the_end { bytes.len().min(32) } else { bytes.len() };
            let at = bytes.len() - 1 - at.index(span);
            bytes[at] = value;
            if let Ok(view) = BodyView::access(&bytes) {
                prop_assert_eq!(shown(&view).len(), view.len());
            }
        }
    }

    #[test]
    fn random_archives_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        if let Ok(view) = BodyView::access(&bytes) {
            prop_assert_eq!(shown(&view).len(), view.len());
        }
    }
}

#[test]
fn every_prefix_of_a_body_is_refused() {
    let bytes = archive(&body());
    for len in 0..bytes.len() {
        assert!(BodyView::access(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
}

/// The sample's body with `change` applied, accessed.
fn changed(change: impl FnOnce(&mut Body)) -> Result<(), BodyError> {
    let mut body = body();
    change(&mut body);
    BodyView::access(&archive(&body)).map(|_| ())
}

#[test]
fn ranges_are_held() {
    let range = |index, what| Err(BodyError::Range { index, what });
    assert_eq!(changed(|_| {}), Ok(()));
    assert_eq!(changed(|body| body.txs[1].batch = 1), range(1, "batch"));
    assert_eq!(changed(|body| body.txs[1].source = 5), range(1, "clock source"));
    assert_eq!(changed(|body| body.txs[1].source = 0x24), Ok(()));
    assert_eq!(changed(|body| body.txs[1].source = 0x30), range(1, "clock source"));
    assert_eq!(
        changed(|body| body.txs[0].path_len = STAMP_DEPTH_MAX as u8 + 1),
        range(0, "length over its limit")
    );
    assert_eq!(
        changed(|body| body.txs[0].tx_len = TX_BYTES_MAX as u32 + 1),
        range(0, "length over its limit")
    );
    assert_eq!(changed(|body| body.txs[0].path_len = 0), range(2, "paths"));
    assert_eq!(changed(|body| body.paths.push([0; 32])), range(2, "paths"));
    assert_eq!(changed(|body| body.txs[0].tx_len -= 1), range(2, "transaction bytes"));
    assert_eq!(changed(|body| body.tx_bytes.push(0)), range(2, "transaction bytes"));
    let batch = body().batches[0];
    assert_eq!(
        changed(|body| body.batches.extend([batch; 2])),
        range(2, "more stamp batches than transactions")
    );
    assert_eq!(changed(|body| body.clear()), Ok(()));
    let tx = body().txs[0];
    let many = |count: usize| {
        changed(|body| {
            body.txs = vec![BodyTx { path_len: 0, tx_len: 0, ..tx }; count];
            body.paths.clear();
            body.tx_bytes.clear();
        })
    };
    assert_eq!(many(BLOCK_TXS_MAX), Ok(()));
    let what = "more transactions than a block may hold";
    assert_eq!(many(BLOCK_TXS_MAX + 1), range(BLOCK_TXS_MAX + 1, what));
}
