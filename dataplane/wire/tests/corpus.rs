//! Replays every file of the fuzz corpus, and every golden vector, through the functions that the fuzz targets run.

mod fuzz_entry;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    files
}

#[test]
fn the_corpus_breaks_no_rule() {
    for (target, run) in fuzz_entry::TARGETS {
        let files = files(&root().join("corpus").join(target));
        assert!(!files.is_empty(), "the corpus of {target} is empty");
        for file in files {
            println!("{}", file.display());
            run(&std::fs::read(&file).expect("it can be read"));
        }
    }
}

#[test]
fn every_fuzz_target_has_a_corpus_and_a_binary() {
    let names = |folder: &str| -> Vec<String> {
        let stem = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        files(&root().join(folder)).iter().map(stem).collect()
    };
    let mut targets: Vec<String> = fuzz_entry::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz/fuzz_targets"), targets);
}

#[test]
fn the_vectors_cut_and_altered_break_no_rule() {
    for file in files(&root().join("vectors")) {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let vectors: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        for vector in vectors.as_array().expect("a list") {
            let bytes = hex::decode(vector["hex"].as_str().expect("text")).expect("hexadecimal");
            for (_, run) in fuzz_entry::TARGETS {
                run(&bytes);
                for len in (0..bytes.len()).step_by(3) {
                    run(&bytes[..len]);
                }
                for at in (0..bytes.len()).step_by(5) {
                    let mut altered = bytes.clone();
                    altered[at] ^= 1 << (at % 8);
                    run(&altered);
                }
            }
        }
    }
}
