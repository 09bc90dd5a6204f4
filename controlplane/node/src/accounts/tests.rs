//! Keys, key files, amounts and the devnet's genesis.

use super::*;
use roko_consensus::bls::{self, PublicKey};
use roko_wire::genesis::Preset;
use roko_wire::tx::{ParsedTx, parse};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn devnet(validators: u16, seed: &[u8]) -> Result<DevnetGenesis, AccountsError> {
    devnet_genesis(validators, 3, Preset::Balanced, DEVNET_CHAIN_ID, seed, NanoMoment(1_000))
}

#[test]
fn amounts_are_read_in_one_way_and_written_back() {
    let unit = U256::from(1_000_000_000_000_000_000u64);
    for (text, units, written) in [
        ("1.5", unit + unit / U256::from(2), "1.5"),
        ("0", U256::ZERO, "0"),
        ("1000000", unit * U256::from(1_000_000), "1000000"),
        ("0.000000000000000001", U256::from(1), "0.000000000000000001"),
        ("007.10", unit * U256::from(71) / U256::from(10), "7.1"),
    ] {
        assert_eq!(parse_roko(text).unwrap(), units, "{text}");
        assert_eq!(format_roko(units), written);
    }
    let too_much = format!("1{}", "0".repeat(60));
    for text in
        ["", ".", "1.", ".5", "-1", "+1", "1e3", "1_000", "1,5", " 1", "1.5.0", "0.0000000000000000001"]
    {
        assert!(parse_roko(text).is_err(), "{text}");
    }
    assert!(parse_roko(&too_much).unwrap_err().to_string().contains("2^256"));
    assert_eq!(parse_roko(&format_roko(U256::MAX)).unwrap(), U256::MAX);
}

#[test]
fn key_files_read_back_are_private_and_are_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    for scheme in [Scheme::Ed25519, Scheme::Secp256k1] {
        let path = directory.path().join(scheme.name());
        let key = AccountKey::generate(scheme).unwrap();
        save_account(&key, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let back = load_account(&path).unwrap();
        assert_eq!((back.scheme(), back.address()), (scheme, key.address()));
        assert_eq!(KeyFile::read(&path).unwrap(), KeyFile::Account { scheme, address: key.address() });

        let before = fs::read_to_string(&path).unwrap();
        let refusal = save_account(&AccountKey::generate(scheme).unwrap(), &path).unwrap_err().to_string();
        assert!(refusal.contains("never overwritten"), "{refusal}");
        assert_eq!(fs::read_to_string(&path).unwrap(), before);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = load_account(&path).unwrap_err().to_string();
        assert!(refusal.contains("chmod 600") && refusal.contains("644"), "{refusal}");
    }
    let path = directory.path().join("bls");
    let key = bls::SecretKey::from_seed(random_seed().unwrap().as_slice()).unwrap();
    save_bls(&key, &path).unwrap();
    assert_eq!(*load_bls(&path).unwrap().to_bytes(), *key.to_bytes());
    assert_eq!(KeyFile::read(&path).unwrap(), KeyFile::of_bls(&key));
    let refusal = load_account(&path).unwrap_err().to_string();
    assert!(refusal.contains("BLS key"), "{refusal}");
}

#[test]
fn a_damaged_key_file_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("account.key");
    let key = AccountKey::from_secret(Scheme::Ed25519, &[7; 32]).unwrap();
    save_account(&key, &path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let address = key.address().to_string();
    for (from, to, says) in [
        ("0707", "07zz", "hexadecimal"),
        ("ed25519", "ed448", "ed448"),
        (address.as_str(), "0x0000000000000000000000000000000000000001", "not the secret's"),
        ("\"secret\"", "\"sekret\"", "sekret"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let refusal = load_account(&path).unwrap_err().to_string();
        assert!(refusal.contains(says), "{says}: {refusal}");
    }
    assert!(AccountKey::from_secret(Scheme::Secp256k1, &[0xff; 32]).is_none(), "above the group order");
}

#[test]
fn a_transfer_verifies_as_its_account() {
    for scheme in [Scheme::Ed25519, Scheme::Secp256k1] {
        let key = AccountKey::generate(scheme).unwrap();
        let transfer = Transfer {
            chain_id: DEVNET_CHAIN_ID,
            nonce: 4,
            to: Address([9; 20]),
            value: parse_roko("1.5").unwrap(),
            max_fee: 2_000_000_000,
            max_priority_fee: 1,
            valid_from: NanoMoment(5),
            valid_until: NanoMoment(6),
        };
        let signed = transfer.sign(&key);
        let ParsedTx::Native(read) = parse(&signed.raw).unwrap() else { panic!("native") };
        assert_eq!(read.verify().unwrap(), key.address());
        assert_eq!((read.tx.nonce, read.tx.value, read.tx.to), (4, transfer.value, Some(transfer.to)));
        assert_eq!(signed.id, tx_id(&signed.raw));
    }
}

#[test]
fn a_secp256k1_key_has_its_ethereum_address() {
    // Key and address of go-ethereum's crypto tests.
    let secret = hex::decode("289c2857d4598e37fb9647507e47a309d6133539bf21a8b9cb6df88fd5232032").unwrap();
    let key = AccountKey::from_secret(Scheme::Secp256k1, &secret.try_into().unwrap()).unwrap();
    assert_eq!(key.address().to_string(), "0x970e8128ab834e8eac17ab8e3812f010678cf791");
}

#[test]
fn a_seed_gives_one_chain_and_another_seed_another() {
    let (one, again, other) = (devnet(4, b"a").unwrap(), devnet(4, b"a").unwrap(), devnet(4, b"b").unwrap());
    assert_eq!(one.genesis, again.genesis);
    assert_eq!(one.genesis.hash(), again.genesis.hash());
    assert_ne!(one.genesis.hash(), other.genesis.hash());
    assert_ne!(one.genesis.seed, other.genesis.seed);
    let secrets = |chain: &DevnetGenesis| -> Vec<[u8; 32]> {
        chain.accounts.iter().chain(&chain.withdrawals).map(|key| *key.secret).collect()
    };
    let mut all = [secrets(&one), secrets(&other)].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 14, "no two keys are the same");
    assert_eq!(devnet_account(b"a", 2).address(), one.accounts[2].address());
}

#[test]
fn a_devnets_genesis_is_usable() {
    let chain = devnet(4, b"seed").unwrap();
    let genesis = &chain.genesis;
    assert_eq!(roko_wire::genesis::Genesis::parse(&genesis.to_json()).unwrap(), *genesis);
    let supply = parse_roko("3000000").unwrap();
    assert_eq!(genesis.supply(), Some(supply));
    for (index, validator) in genesis.validators.iter().enumerate() {
        assert_eq!(validator.endpoint.ip.to_string(), format!("10.77.0.{}", index + 1));
        assert_eq!((validator.endpoint.port, validator.stake_roko), (7_700, 32_000));
        assert_eq!(validator.node_key, chain.node_identities[index].node_key());
        let key = PublicKey::from_bytes(&validator.bls_key.0).unwrap();
        assert_eq!(key, chain.bls_keys[index].public_key());
        bls::verify_possession(&key, &validator.bls_proof.0).unwrap();
    }
    assert_eq!(devnet_ip(255).to_string(), "10.77.1.0");
    let refusal = devnet(0, b"seed").map(|_| ()).unwrap_err().to_string();
    assert!(refusal.contains("1 to 256"), "{refusal}");
}
