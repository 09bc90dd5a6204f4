//! [`LedgerOfOne`]: a chain with one validator, in memory, that makes a block when it is told to. It checks and
//! executes transfers by the wire's own rules, so that a test of the services meets what a node answers.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses its own part")]

mod ledger;

pub use ledger::{
    BASE_FEE, CHAIN, INBOX_CAPACITY, LedgerOfOne, NONCE_GAP_MAX, POOL_CAPACITY, START, WINDOW_NS_MAX,
};

use ed25519_zebra::{SigningKey, VerificationKey};
use roko_wire::{
    Address, NanoMoment,
    account::{address_of_ed25519, address_of_secp256k1},
    ethereum::{Envelope, EthereumTx, wire},
    tx::NativeTx,
};
use ruint::aliases::U256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A key made of one repeated byte.
pub fn key(byte: u8) -> SigningKey {
    SigningKey::from([byte; 32])
}

/// The account of a key.
pub fn address(key: &SigningKey) -> Address {
    address_of_ed25519(&VerificationKey::from(key).into())
}

/// A transfer of `value` that the ledger takes.
pub fn transfer(nonce: u64, to: Address, value: u64) -> NativeTx<'static> {
    NativeTx {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee: 2 * BASE_FEE,
        max_priority_fee: 0,
        // The clock's error bound of 500 ns counts against the sender.
        valid_from: NanoMoment(START.0 - 1_000),
        valid_until: NanoMoment(START.0 + 60_000_000_000),
        value: U256::from(value),
        to: Some(to),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

/// A secp256k1 key made of one repeated byte, as Ethereum's wallets hold them.
pub fn ethereum_key(byte: u8) -> k256::ecdsa::SigningKey {
    k256::ecdsa::SigningKey::from_slice(&[byte; 32]).unwrap()
}

/// The account of an Ethereum key.
pub fn ethereum_address(key: &k256::ecdsa::SigningKey) -> Address {
    let point = key.verifying_key().to_sec1_point(false);
    address_of_secp256k1(point.as_bytes()[1..].try_into().unwrap())
}

/// An Ethereum transfer of `value` that the ledger takes.
pub fn ethereum_transfer(envelope: Envelope, nonce: u64, to: Address, value: u64) -> EthereumTx<'static> {
    EthereumTx {
        envelope,
        chain_id: Some(CHAIN),
        nonce,
        gas_limit: 21_000,
        max_fee: 2 * BASE_FEE,
        max_priority_fee: if envelope == Envelope::DynamicFee { 1 } else { 2 * BASE_FEE },
        value: U256::from(value),
        to: Some(to),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

/// Wire bytes of a legacy transaction that names no chain.
pub fn from_before_eip_155() -> Vec<u8> {
    let tx = EthereumTx { chain_id: None, ..ethereum_transfer(Envelope::Legacy, 0, Address([2; 20]), 1) };
    wire(&tx.sign(&ethereum_key(1)))
}

/// The `raw` of `temporal_sendTransaction`.
pub fn hex(wire: &[u8]) -> String {
    format!("0x{}", hex::encode(wire))
}

/// Sends text over a new connection and returns the status and what follows the head, once the server closes.
pub async fn http(address: std::net::SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// POSTs a JSON-RPC body and closes after the answer.
pub async fn post(address: std::net::SocketAddr, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let (status, _, body) = http(address, &request).await;
    (status, body)
}
