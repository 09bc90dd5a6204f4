//! The golden vectors: what the code writes, what `vectors/*.json` holds and what `WIRE.md` shows are the same bytes.
//!
//! `ROKO_WIRE_VECTORS=write cargo test -p roko-wire --test vectors` writes the files and the document's blocks anew;
//! a change of theirs in review is a change of the wire.

#[path = "../samples/mod.rs"]
mod samples;

mod blocks;
mod consensus;
mod document;
mod frames;
mod ledger;
mod limits;
mod reading;
mod sync;
mod transactions;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One golden vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Vector {
    /// Unique in its file.
    name: String,
    /// What it is made from, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, String>,
    /// The bytes.
    hex: String,
}

impl Vector {
    fn new(name: &str, bytes: impl AsRef<[u8]>) -> Vector {
        Vector { name: name.to_owned(), inputs: BTreeMap::new(), hex: hex::encode(bytes) }
    }

    fn from(mut self, input: &str, value: impl ToString) -> Vector {
        self.inputs.insert(input.to_owned(), value.to_string());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        hex::decode(&self.hex).expect("vectors hold hexadecimal")
    }
}

/// The crate's folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Whether this run writes the files instead of checking them.
fn writes() -> bool {
    std::env::var_os("ROKO_WIRE_VECTORS").is_some_and(|value| value == "write")
}

/// Every vector that the code makes, by file.
fn made() -> Vec<(&'static str, Vec<Vector>)> {
    vec![
        ("keys", transactions::keys()),
        ("frame", frames::vectors()),
        ("transaction", transactions::vectors()),
        ("stamp", blocks::stamps()),
        ("block", blocks::vectors()),
        ("consensus", consensus::vectors()),
        ("ledger", ledger::vectors()),
        ("limits", limits::vectors()),
        ("sync", sync::vectors()),
    ]
}

/// One vector of the files.
fn stored(file: &str, name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(root().join(format!("vectors/{file}.json"))).expect("the file exists");
    let vectors: Vec<Vector> = serde_json::from_str(&text).expect("the file is a list of vectors");
    vectors.iter().find(|vector| vector.name == name).expect("the vector exists").bytes()
}

#[test]
fn the_code_writes_what_the_files_hold() {
    for (file, vectors) in made() {
        let mut text = serde_json::to_string_pretty(&vectors).expect("vectors are plain data");
        text.push('\n');
        let path = root().join(format!("vectors/{file}.json"));
        if writes() {
            std::fs::write(&path, &text).expect("the file can be written");
        }
        let stored: Vec<Vector> =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("the file exists"))
                .expect("it is a list");
        for (made, stored) in vectors.iter().zip(&stored) {
            assert_eq!(made, stored, "{file}");
        }
        assert_eq!(vectors.len(), stored.len(), "{file}");
    }
}

#[test]
fn no_file_of_vectors_is_left_out() {
    let mut files: Vec<String> = std::fs::read_dir(root().join("vectors"))
        .expect("the folder exists")
        .map(|entry| entry.expect("it can be listed").file_name().into_string().expect("a plain name"))
        .collect();
    files.sort();
    let mut wanted: Vec<String> = made().iter().map(|(file, _)| format!("{file}.json")).collect();
    wanted.sort();
    assert_eq!(files, wanted);
}
