//! The dependency rule and the place of `unsafe`, checked against `cargo metadata` and the sources.
//!
//! 1. `wire <- ring <- pipeline`, and `wire <- every control-plane library`. The pipeline and the control-plane libraries
//!    never import each other; they meet in `controlplane/node`.
//! 2. Consensus, execution and the pure half of time take time, randomness and storage as arguments.
//! 3. `unsafe` lives in `ffi/` and `dataplane/ring`; every other crate forbids it.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which folders' crates a folder's crate may depend on. `*` is any of the workspace. A folder that is not here is a
/// problem of its own: whoever adds a crate says here where in the order it stands.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("ffi/dpdk/sys", &[]),
    ("ffi/dpdk", &["ffi/dpdk/sys"]),
    ("ffi/os", &[]),
    ("ffi/ed25519", &[]),
    ("dataplane/wire", &[]),
    ("dataplane/ring", &["dataplane/wire"]),
    ("dataplane/pipeline", &["dataplane/wire", "dataplane/ring", "ffi/os", "ffi/ed25519", "ffi/dpdk"]),
    ("controlplane/consensus", &["dataplane/wire"]),
    ("controlplane/execution", &["dataplane/wire"]),
    ("controlplane/peers", &["dataplane/wire"]),
    ("controlplane/services", &["dataplane/wire"]),
    ("controlplane/state", &["dataplane/wire", "ffi/os"]),
    // The page that the clock's map is published in is a structure of the ring crate.
    ("controlplane/time", &["dataplane/wire", "dataplane/ring", "ffi/os"]),
    ("controlplane/node", &["*"]),
    ("controlplane/sim", &["*"]),
    ("tuning", &[]),
    ("benches", &["*"]),
];

/// Everything that the pure crates depend on, outside the workspace. Each is arithmetic on its arguments; a crate that
/// reads a clock, draws randomness or does I/O has no place here.
const PURE_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("controlplane/consensus", &["blst", "ed25519-zebra", "sha2", "thiserror", "zeroize"]),
    ("controlplane/execution", &["arrayvec", "ed25519-zebra", "ruint", "thiserror"]),
];

/// Sources that name no clock, randomness or I/O.
const PURE_SOURCES: &[&str] = &[
    "controlplane/consensus/src",
    "controlplane/execution/src",
    "controlplane/time/src/map.rs",
    "controlplane/time/src/port_map.rs",
    "controlplane/time/src/marzullo.rs",
    "controlplane/node/src/slow_path/answers.rs",
    "controlplane/node/src/slow_path/neighbours.rs",
    "controlplane/node/src/slow_path/ways.rs",
];

/// What a pure source must not say.
const IMPURE: &[&str] = &[
    "std::time",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::io",
    "SystemTime",
    "Instant::now",
    "rand::",
    "roko_os",
    "tokio",
];

/// Folders whose crates may contain `unsafe`.
const UNSAFE_ALLOWED: &[&str] = &["ffi/", "dataplane/ring/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace is above this crate")
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs: it runs this test");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("cargo metadata prints JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A path below the workspace's root, for instance `dataplane/wire`.
fn below<'a>(workspace: &Value, path: &'a str) -> &'a str {
    path.strip_prefix(text(&workspace["workspace_root"])).unwrap_or(path).trim_start_matches('/')
}

fn folder<'a>(workspace: &'a Value, package: &'a Value) -> &'a str {
    below(workspace, text(&package["manifest_path"])).trim_end_matches("/Cargo.toml")
}

/// Everything in `cargo metadata`'s answer that breaks rules 1 and 2.
fn dependency_problems(workspace: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for package in list(&workspace["packages"]) {
        let from = folder(workspace, package);
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(name, _)| *name == from) else {
            problems.push(format!("{from} has no row in MAY_DEPEND_ON: say where in the order it stands"));
            continue;
        };
        let pure = PURE_DEPENDENCIES.iter().find(|(name, _)| *name == from);
        for dependency in list(&package["dependencies"]) {
            let name = text(&dependency["name"]);
            if let Some(path) = dependency["path"].as_str() {
                // Tests keep to the order too: a library that is tested with the other plane depends on it.
                let to = below(workspace, path);
                if !allowed.contains(&"*") && !allowed.contains(&to) {
                    problems.push(format!("{from} depends on {to}"));
                }
            } else if let Some((_, allowed)) = pure
                && dependency["kind"].is_null()
                && !allowed.contains(&name)
            {
                problems.push(format!("{from} is pure and depends on {name}"));
            }
        }
    }
    problems
}

/// Rust files at or below `path`.
fn rust_files(path: &Path, out: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in path.read_dir().expect("a source folder is readable") {
            rust_files(&entry.expect("a source folder is readable").path(), out);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        out.push(path.to_owned());
    }
}

/// Lines of code, without comments, that contain one of `words`: `line number: word`.
fn lines_with(source: &str, words: &[impl AsRef<str>]) -> Vec<String> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let line = code(line);
        let words = words.iter().map(AsRef::as_ref).filter(|word| line.contains(word));
        found.extend(words.map(|word| format!("{}: {word}", number + 1)));
    }
    found
}

/// What the compiler is told to forbid; written in two pieces so that this file does not contain what it looks for.
fn unsafe_words() -> Vec<String> {
    ["{", "fn", "impl", "trait", "extern"].iter().map(|what| format!("{} {what}", "unsafe")).collect()
}

#[test]
fn crates_depend_downwards_only() {
    let workspace = metadata();
    assert!(list(&workspace["packages"]).len() >= 15, "cargo metadata lists the workspace");
    assert_eq!(dependency_problems(&workspace), Vec::<String>::new());
}

#[test]
fn every_row_is_needed() {
    // A row that names a dependency nobody has would let it in unseen later.
    let workspace = metadata();
    for (from, allowed) in MAY_DEPEND_ON {
        let find = |package: &&Value| folder(&workspace, package) == *from;
        let Some(package) = list(&workspace["packages"]).iter().find(find) else { continue };
        let has = |to: &str| {
            list(&package["dependencies"]).iter().any(|dependency| {
                dependency["path"].as_str().is_some_and(|path| below(&workspace, path) == to)
            })
        };
        for to in allowed.iter().filter(|to| **to != "*") {
            assert!(has(to), "{from} does not depend on {to}: take it out of the row");
        }
    }
}

#[test]
fn pure_sources_name_no_clock_randomness_or_io() {
    let mut files = Vec::new();
    PURE_SOURCES.iter().for_each(|path| rust_files(&root().join(path), &mut files));
    assert!(files.len() >= 20, "{files:?}");
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source file is readable");
        assert_eq!(lines_with(&source, IMPURE), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn unsafe_is_forbidden_outside_ffi_and_ring() {
    let workspace = metadata();
    let mut roots = 0;
    for package in list(&workspace["packages"]) {
        let place = format!("{}/", folder(&workspace, package));
        if UNSAFE_ALLOWED.iter().any(|allowed| place.starts_with(allowed)) {
            continue;
        }
        for target in list(&package["targets"]) {
            let kinds: Vec<&str> = list(&target["kind"]).iter().map(text).collect();
            if kinds.contains(&"lib") || kinds.contains(&"bin") {
                let path = text(&target["src_path"]);
                let source = std::fs::read_to_string(path).expect("a crate's root is readable");
                assert!(source.contains("#![forbid(unsafe_code)]"), "{path} does not forbid unsafe code");
                roots += 1;
            }
        }
        // Tests, benches and examples are crates of their own, which the attribute above does not reach.
        let mut files = Vec::new();
        for part in ["src", "tests", "benches", "examples"] {
            rust_files(&root().join(&place).join(part), &mut files);
        }
        for file in files {
            let source = std::fs::read_to_string(&file).expect("a source file is readable");
            assert_eq!(lines_with(&source, &unsafe_words()), Vec::<String>::new(), "{}", file.display());
        }
    }
    assert!(roots >= 12, "only {roots} crates were looked at");
}

#[test]
fn what_breaks_the_rule_is_noticed() {
    let package = |folder: &str, dependencies: Value| json!({ "manifest_path": format!("/w/{folder}/Cargo.toml"), "dependencies": dependencies });
    let on = |folder: &str| json!({ "name": "x", "kind": null, "path": format!("/w/{folder}") });
    let workspace = json!({ "workspace_root": "/w", "packages": [
        package("dataplane/wire", json!([on("dataplane/ring")])),
        package("dataplane/pipeline", json!([on("controlplane/consensus"), on("dataplane/wire")])),
        package("controlplane/state", json!([{ "name": "x", "kind": "dev", "path": "/w/dataplane/pipeline" }])),
        package("controlplane/consensus", json!([{ "name": "tokio", "kind": null }, { "name": "sha2", "kind": null }])),
        package("controlplane/execution", json!([{ "name": "rand", "kind": "dev" }])),
        package("controlplane/new", json!([])),
        package("controlplane/node", json!([on("controlplane/consensus"), on("dataplane/pipeline")])),
    ]});
    assert_eq!(
        dependency_problems(&workspace),
        [
            "dataplane/wire depends on dataplane/ring",
            "dataplane/pipeline depends on controlplane/consensus",
            "controlplane/state depends on dataplane/pipeline",
            "controlplane/consensus is pure and depends on tokio",
            "controlplane/new has no row in MAY_DEPEND_ON: say where in the order it stands",
        ]
    );
    assert_eq!(lines_with("let now = Instant::now(); // no\n// std::fs\n", IMPURE), ["1: Instant::now"]);
    assert_eq!(lines_with(&format!("\n{}\n", unsafe_words()[0]), &unsafe_words()).len(), 1);
}
