//! Vectors of accounts, genesis and the canonical order.

use super::Vector;
use crate::samples::*;
use roko_wire::Account;
use roko_wire::codec::Sink;
use roko_wire::genesis::*;
use roko_wire::ids::{Address, Hash32};
use roko_wire::nano::NanoMoment;
use ruint::aliases::U256;

/// A chain of one validator.
pub(crate) fn genesis() -> Genesis {
    let validator = GenesisValidator {
        bls_key: BlsPublicKey(counting(0x01)),
        bls_proof: ProofOfPossession(counting(0x31)),
        node_key: NodeKey(public(&node())),
        withdrawal: Address(counting(0x91)),
        stake_roko: 32_000,
        ml_dsa_key_hash: Hash32::ZERO,
        endpoint: Endpoint { ip: "192.0.2.1".parse().expect("an address"), port: 30_303 },
    };
    Genesis {
        chain_id: CHAIN,
        time: NanoMoment(1_795_000_000_000_000_000),
        tai_offset_s: 37,
        preset: Preset::Balanced,
        seed: Hash32(counting(0x70)),
        validators: vec![validator],
        balances: vec![GenesisBalance {
            address: roko_wire::account::address_of_ed25519(&public(&sender())),
            balance: U256::from(1_000_000_000_000_000_000u64),
        }],
        limits: GenesisLimits::default(),
    }
}

pub(crate) fn vectors() -> Vec<Vector> {
    let account = Account {
        nonce: 9,
        balance: U256::from(1_000_000_000_000_000_000u64),
        code_hash: Hash32(counting(0x80)),
        storage_root: Hash32::ZERO,
    };
    let mut bytes = Vec::new();
    account.write(&mut bytes);
    let mut validator = Vec::new();
    genesis().validators[0].write(&mut validator);
    let mut limits = Vec::new();
    [
        100u64,
        10,
        1_000,
        86_400,
        4_194_304,
        8_192,
        344_064_000,
        1_000_000_000,
        86_400,
        3_000,
        50,
        500,
        100_000,
        50,
    ]
    .iter()
    .for_each(|value| limits.put_u64(*value));
    vec![
        Vector::new("account", bytes)
            .from("nonce", 9)
            .from("balance", account.balance)
            .from("code_hash", account.code_hash)
            .from("storage_root", account.storage_root),
        Vector::new("genesis_validator", validator).from("file", "ledger/genesis_hash, validators[0]"),
        Vector::new("genesis_limits", limits).from("limits", "the defaults"),
        Vector::new("genesis_hash", genesis().hash()).from("file", genesis().to_json()),
        Vector::new("genesis_block_id", genesis().block_id()).from("genesis", "ledger/genesis_hash"),
    ]
}

#[test]
fn the_genesis_hash_covers_the_layout_that_the_document_gives() {
    let genesis = genesis();
    let stored = |name| super::stored("ledger", name);
    let layout = [
        &b"roko/genesis/1"[..],
        &CHAIN.0.to_le_bytes(),
        &genesis.time.0.to_le_bytes(),
        &37i32.to_le_bytes(),
        &[1],
        &genesis.seed.0,
        &1u16.to_le_bytes(),
        &stored("genesis_validator"),
        &1u64.to_le_bytes(),
        &genesis.balances[0].address.0,
        &genesis.balances[0].balance.to_le_bytes::<32>(),
        &stored("genesis_limits"),
    ]
    .concat();
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(layout).into();
    assert_eq!(stored("genesis_hash"), hash);
    assert_eq!(Genesis::parse(&genesis.to_json()), Ok(genesis));
}
