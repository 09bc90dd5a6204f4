//! Replays the corpora of the fuzz targets. `rx_path`: every script through a port of this process, and the same frames as a
//! capture; both come to the same counts. `pcap`: capture files.

mod common;
mod fuzz_entry;
mod fuzz_pcap;

use std::path::Path;

fn corpus(of: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(of);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        (path.display().to_string(), std::fs::read(&path).expect("it can be read"))
    };
    files.into_iter().map(read).collect()
}

#[test]
fn the_corpus_is_accounted_for_and_a_capture_of_it_comes_to_the_same() {
    let corpus = corpus("rx_path");
    let mut reached: Vec<(&str, &str)> = Vec::new();
    for (name, script) in &corpus {
        println!("{name}");
        let frames = fuzz_entry::frames(script);
        let counts = fuzz_entry::in_process(&frames);
        let captured = fuzz_entry::as_capture(&frames);
        let differ: Vec<_> = counts.iter().zip(&captured).filter(|(one, other)| one != other).collect();
        assert!(differ.is_empty(), "{name}: {differ:?}");
        reached
            .extend(counts.iter().filter(|(.., count)| *count > 0).map(|(stage, label, _)| (*stage, *label)));
    }
    // A corpus that ends in the first stages shows nothing of the later ones.
    for must in [
        ("filter", "bad_checksum"),
        ("decode", "unknown_session"),
        ("open", "replayed"),
        ("open", "bad_tag"),
        ("open", "wrong_role"),
        ("open", "passed_control"),
        ("verify", "bad_signature"),
        ("verify", "bad_root"),
        ("verify", "duplicate"),
        ("verify", "malformed_message"),
        ("verify", "passed"),
    ] {
        assert!(reached.contains(&must), "no script reaches {must:?}");
    }
}

#[test]
fn captures_are_read_as_far_as_they_go() {
    let ends: Vec<(usize, bool)> = corpus("pcap").iter().map(|(_, file)| fuzz_pcap::pcap(file)).collect();
    assert!(ends.contains(&(2, true)), "a whole one with two records");
    assert!(ends.iter().any(|(records, whole)| *records > 0 && !whole), "one that ends inside a record");
}
