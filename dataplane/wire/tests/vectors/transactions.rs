//! Vectors of keys, addresses and transactions.

use super::Vector;
use crate::samples::*;
use roko_wire::account::{address_of_ed25519, address_of_secp256k1};
use roko_wire::ethereum::{Envelope, wire};
use roko_wire::ids::Hash32;
use roko_wire::message::write_submit;
use roko_wire::tx::{KIND_ETHEREUM, tie_break, tx_id};

/// The signed legacy transaction of EIP-155's example.
const EIP_155_EXAMPLE: &str = "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080\
    25a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc642\
    14b297fb1966a3b6d83";

pub(crate) fn keys() -> Vec<Vector> {
    let secp = secp_sender();
    let point = secp.verifying_key().to_sec1_point(false);
    let xy: [u8; 64] = point.as_bytes()[1..].try_into().expect("x and y");
    vec![
        Vector::new("ed25519_public", public(&sender())).from("secret", SENDER_SECRET),
        Vector::new("ed25519_address", address_of_ed25519(&public(&sender()))),
        Vector::new("node_public", public(&node())).from("secret", NODE_SECRET),
        Vector::new("secp256k1_public", xy).from("secret", SECP_SECRET),
        Vector::new("secp256k1_address", address_of_secp256k1(&xy)),
    ]
}

/// The wire bytes of the Ethereum vector.
pub(crate) fn ethereum() -> Vec<u8> {
    let mut wire = vec![KIND_ETHEREUM];
    wire.extend(hex::decode(EIP_155_EXAMPLE).expect("a constant"));
    wire
}

/// Wire bytes of a transfer of type 1, with an access list, or of type 2.
fn typed(envelope: Envelope) -> Vec<u8> {
    let list = ethereum_access_list();
    let mut tx = ethereum_transfer(envelope);
    if envelope == Envelope::AccessList {
        (tx.access_list, tx.access_items, tx.access_keys) = (&list, 2, 2);
    }
    wire(&tx.sign(&secp_sender()))
}

/// The vectors of types 1 and 2 with their inputs, each followed by its id.
fn typed_vectors() -> Vec<Vector> {
    let one = |name: &str, envelope| {
        let (tx, wire) = (ethereum_transfer(envelope), typed(envelope));
        let mut vector = Vector::new(name, &wire)
            .from("secret", SECP_SECRET)
            .from("chain_id", CHAIN)
            .from("nonce", tx.nonce)
            .from("gas_limit", tx.gas_limit)
            .from("max_fee", tx.max_fee)
            .from("max_priority_fee", tx.max_priority_fee)
            .from("value", tx.value)
            .from("to", tx.to.expect("a transfer has a recipient"));
        if envelope == Envelope::AccessList {
            vector = vector.from("access_list", hex::encode(ethereum_access_list()));
        }
        let id = Vector::new(&format!("{name}_id"), tx_id(&wire));
        [vector, id.from("transaction", format!("transaction/{name}"))]
    };
    [one("ethereum_access_list", Envelope::AccessList), one("ethereum_dynamic_fee", Envelope::DynamicFee)]
        .concat()
}

pub(crate) fn vectors() -> Vec<Vector> {
    let ed25519 = transfer().sign_ed25519(&sender());
    let secp256k1 = transfer().sign_secp256k1(&secp_sender());
    let list = access_list();
    let creation = creation(&list).sign_ed25519(&sender());
    let id = tx_id(&ed25519);
    let mut submit = Vec::new();
    write_submit(&[&secp256k1, &ethereum()], &mut submit);
    let transfer = |vector: Vector| {
        let tx = transfer();
        vector
            .from("chain_id", tx.chain_id)
            .from("nonce", tx.nonce)
            .from("gas_limit", tx.gas_limit)
            .from("max_fee", tx.max_fee)
            .from("max_priority_fee", tx.max_priority_fee)
            .from("valid_from", tx.valid_from)
            .from("valid_until", tx.valid_until)
            .from("value", tx.value)
            .from("to", tx.to.expect("a transfer has a recipient"))
    };
    let seed = Hash32(counting(0x70));
    let mut vectors = vec![
        transfer(Vector::new("ed25519", &ed25519)).from("secret", SENDER_SECRET),
        Vector::new("ed25519_id", id).from("transaction", "transaction/ed25519"),
        transfer(Vector::new("secp256k1", &secp256k1)).from("secret", SECP_SECRET),
        Vector::new("secp256k1_id", tx_id(&secp256k1)).from("transaction", "transaction/secp256k1"),
        transfer(Vector::new("creation", &creation))
            .from("secret", SENDER_SECRET)
            .from("nonce", 8)
            .from("gas_limit", 100_000)
            .from("value", 0)
            .from("to", "none")
            .from("input", "60006000f3")
            .from("access_list", hex::encode(&list)),
        Vector::new("creation_id", tx_id(&creation)).from("transaction", "transaction/creation"),
        Vector::new("ethereum", ethereum()).from("raw", EIP_155_EXAMPLE),
        Vector::new("ethereum_id", tx_id(&ethereum())).from("transaction", "transaction/ethereum"),
        Vector::new("submit", submit).from("transactions", "transaction/secp256k1, transaction/ethereum"),
        Vector::new("tie_break", tie_break(&seed, &id).to_le_bytes())
            .from("seed", seed)
            .from("id", "transaction/ed25519_id"),
    ];
    vectors.extend(typed_vectors());
    vectors
}
