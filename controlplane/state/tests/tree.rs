//! The state tree against a model that knows nothing of sharing, and its proofs against every address.

mod common;

use common::{account, address};
use proptest::prelude::*;
use roko_state::proof::PROOF_BYTES_MAX;
use roko_state::{Proof, Tree, range};
use roko_wire::snapshot::StateRange;
use roko_wire::{Account, Address, Hash32};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The root by definition: split by bits until one account is left.
fn model_root(leaves: &[([u8; 32], Account)], depth: usize) -> Hash32 {
    match leaves {
        [] => Hash32::ZERO,
        [(key, account)] => {
            let mut bytes = vec![2];
            bytes.extend_from_slice(key);
            account.write(&mut bytes);
            Hash32(Sha256::digest(bytes).into())
        }
        _ => {
            let is_right = |key: &[u8; 32]| key[depth / 8] & (0x80 >> (depth % 8)) != 0;
            let (right, left): (Vec<_>, Vec<_>) = leaves.iter().partition(|(key, _)| is_right(key));
            let mut bytes = vec![3];
            bytes.extend_from_slice(&model_root(&left, depth + 1).0);
            bytes.extend_from_slice(&model_root(&right, depth + 1).0);
            Hash32(Sha256::digest(bytes).into())
        }
    }
}

fn model(accounts: &BTreeMap<Address, Account>) -> Hash32 {
    let leaves: Vec<_> =
        accounts.iter().map(|(address, account)| (Sha256::digest(address.0).into(), *account)).collect();
    model_root(&leaves, 0)
}

fn changes() -> impl Strategy<Value = Vec<(Address, Option<Account>)>> {
    let change = (0_u64..40, proptest::option::weighted(0.7, 0_u64..5));
    let change = change.prop_map(|(index, value)| (address(index), value.map(account)));
    proptest::collection::vec(change, 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn updates_lead_to_the_models_root_and_leave_old_versions_alone(batches in proptest::collection::vec(changes(), 1..6)) {
        let mut accounts = BTreeMap::new();
        let mut tree = Tree::new();
        let mut versions = vec![(tree.clone(), accounts.clone())];
        for batch in batches {
            tree = tree.update(&batch);
            for (address, value) in batch {
                match value {
                    Some(account) => drop(accounts.insert(address, account)),
                    None => drop(accounts.remove(&address)),
                }
            }
            versions.push((tree.clone(), accounts.clone()));
        }
        for (tree, accounts) in versions {
            prop_assert_eq!(tree.root(), model(&accounts));
            prop_assert_eq!(tree.accounts(), accounts.len());
            prop_assert_eq!(tree.iter().collect::<BTreeMap<_, _>>(), accounts.clone());
            for index in 0..45 {
                prop_assert_eq!(tree.get(&address(index)), accounts.get(&address(index)).copied());
            }
        }
    }

    #[test]
    fn the_order_of_changes_does_not_matter(batch in changes(), base in changes(), rotate in 0_usize..30) {
        let base = Tree::new().update(&base);
        let distinct: BTreeMap<_, _> = batch.into_iter().collect();
        let mut batch: Vec<_> = distinct.into_iter().collect();
        let root = base.update(&batch).root();
        let by = rotate % batch.len().max(1);
        batch.rotate_left(by);
        prop_assert_eq!(base.update(&batch).root(), root);
        batch.reverse();
        let one_by_one = batch.iter().fold(base, |tree, change| tree.update(&[*change]));
        prop_assert_eq!(one_by_one.root(), root);
    }

    #[test]
    fn proofs_show_what_is_there_and_nothing_else(batch in changes()) {
        let tree = Tree::new().update(&batch);
        let root = tree.root();
        for index in 0..45 {
            let address = address(index);
            let held = tree.get(&address);
            let proof = tree.prove(&address);
            let bytes = proof.encode();
            prop_assert!(bytes.len() <= PROOF_BYTES_MAX);
            prop_assert_eq!(&Proof::decode(&bytes).unwrap(), &proof);
            prop_assert!(proof.verify(&root, &address, held.as_ref()));
            // Neither another value, nor absence of what is there, nor another root, nor another address.
            let other = account(77);
            prop_assert!(!proof.verify(&root, &address, Some(&other)));
            prop_assert!(held.is_none() || !proof.verify(&root, &address, None));
            prop_assert!(!proof.verify(&Hash32([1; 32]), &address, held.as_ref()));
            let elsewhere = common::address(1000 + index);
            prop_assert!(held.is_none() || !proof.verify(&root, &elsewhere, held.as_ref()));
        }
    }

    #[test]
    fn a_proof_with_any_bit_flipped_shows_nothing(batch in changes(), index in 0_u64..40, bit in any::<prop::sample::Index>()) {
        let tree = Tree::new().update(&batch);
        let address = address(index);
        let held = tree.get(&address);
        let mut bytes = tree.prove(&address).encode();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(proof) = Proof::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes, "one proof has one layout");
            prop_assert!(!proof.verify(&tree.root(), &address, held.as_ref()));
        }
    }

    #[test]
    fn nothing_that_is_decoded_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(proof) = Proof::decode(&bytes) {
            prop_assert_eq!(proof.encode(), bytes);
        }
    }
}

#[test]
fn the_last_change_of_an_address_wins() {
    let (here, one, two) = (address(1), account(1), account(2));
    let tree = Tree::new().update(&[(here, Some(one)), (here, None), (here, Some(two))]);
    assert_eq!((tree.get(&here), tree.accounts()), (Some(two), 1));
    assert_eq!(tree.update(&[(here, Some(one)), (here, None)]).root(), Hash32::ZERO);
}

#[test]
fn the_empty_tree_proves_absence() {
    let proof = Tree::new().prove(&address(3));
    assert!(proof.verify(&Hash32::ZERO, &address(3), None));
    assert!(!proof.verify(&Hash32::ZERO, &address(3), Some(&account(0))));
}

/// Places of a tree's ranges, with the range that is answered there.
fn ranges(tree: &Tree, accounts_max: usize) -> Vec<([u8; 32], StateRange)> {
    let (mut ranges, mut next) = (Vec::new(), Some([0; 32]));
    while let Some(from) = next {
        let zeros = (0..256).rev().take_while(|bit| from[bit / 8] >> (7 - bit % 8) & 1 == 0).count();
        let range = tree.range(&from, 256 - zeros, accounts_max);
        next = range::after(&from, range.siblings.len());
        ranges.push((from, range));
    }
    ranges
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn ranges_cover_the_state_and_prove_it(batch in changes(), accounts_max in 1_usize..9) {
        let tree = Tree::new().update(&batch);
        let mut covered = Vec::new();
        for (from, range) in ranges(&tree, accounts_max) {
            prop_assert!(range.accounts.len() <= accounts_max);
            let proven = range::prove(range.clone(), &tree.root(), &from).unwrap();
            prop_assert_eq!(usize::from(proven.depth), range.siblings.len());
            covered.extend(proven.accounts);
        }
        prop_assert_eq!(covered, tree.iter().collect::<Vec<_>>());
    }

    /// Nothing that is left out, added, altered, moved or of another state passes.
    #[test]
    fn a_wrong_range_is_refused(
        batch in changes(),
        what in 0_u8..6,
        at in any::<prop::sample::Index>(),
        accounts_max in 1_usize..9,
    ) {
        let tree = Tree::new().update(&batch);
        let all = ranges(&tree, accounts_max);
        let (from, range) = &all[at.index(all.len())];
        let (from, mut wrong, mut root) = (*from, range.clone(), tree.root());
        match what {
            0 if !wrong.accounts.is_empty() => drop(wrong.accounts.remove(at.index(wrong.accounts.len()))),
            1 => wrong.accounts.push((address(77), account(1))),
            2 if !wrong.accounts.is_empty() => {
                let place = at.index(wrong.accounts.len());
                wrong.accounts[place].1.nonce += 1;
            }
            3 if wrong.accounts.len() > 1 => wrong.accounts.swap(0, 1),
            4 if !wrong.siblings.is_empty() => {
                let place = at.index(wrong.siblings.len());
                wrong.siblings[place].0[5] ^= 1;
            }
            _ => root.0[0] ^= 1,
        }
        prop_assert!(range::prove(wrong, &root, &from).is_err());
    }
}

#[test]
fn places_are_cut_and_follow_each_other_by_depth() {
    let place = |first: u8| core::array::from_fn::<u8, 32, _>(|at| if at == 0 { first } else { 0 });
    let full = [0xff; 32];
    assert_eq!(range::first_place(&full, 3), place(0xe0));
    assert_eq!((range::first_place(&full, 256), range::first_place(&full, 0)), (full, [0; 32]));
    assert_eq!(range::after(&place(0x20), 3), Some(place(0x40)));
    assert_eq!(range::after(&place(0x60), 3), Some(place(0x80)));
    assert_eq!((range::after(&full, 256), range::after(&[0; 32], 0)), (None, None));
}
