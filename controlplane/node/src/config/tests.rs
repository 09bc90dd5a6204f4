//! One file with every class of error, the example, suggestions, and the files that a configuration names.

use super::reader::{Presence, toml_value};
use super::table::SECTIONS;
use super::*;
use crate::accounts::{DEVNET_CHAIN_ID, devnet_genesis, save_bls};
use roko_wire::NanoMoment;
use roko_wire::genesis::Preset;

/// The least that a validator must say.
const LEAST: &str = r#"
[node]
name = "roko-1"
kind = "validator"
data_dir = "data"
genesis = "genesis.json"
node_key = "node.key"
bls_key = "bls.key"
[port]
device = "net_af_packet0,iface=eth1"
[network]
ip = "10.77.0.1"
"#;

fn problems(text: &str) -> Vec<String> {
    NodeConfig::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_class_of_error_is_reported_at_once() {
    let text = r#"
        [node]
        nmae = "roko-1"
        kind = "archive"
        data_dir = 7
        genesis = "genesis.json"
        node_key = ""
        [port]
        kind = "in_process"
        device = "eth0"
        hugepages = "yes"
        memory_mb = 1
        [network]
        ip = "0.0.0.0"
        port = 70000
        mac = "01:00:00:00:00:00"
        memory_mb = 4
        [[client]]
        index = 7
        node_key = "abc"
        ip = "::ffff:10.0.0.1"
        [neighbor]
        ip = "10.77.0.2"
        [rpc]
        listen = "9944"
        connections_max = -1
        [mempol]
        transactions_max = 5
    "#;
    let found = problems(text);
    let expected = [
        ("node.nmae", "did you mean node.name?"),
        ("node.name", "is missing: add it"),
        ("node.kind = \"archive\"", "not built yet"),
        ("node.data_dir = 7", "write it in quotes"),
        ("node.node_key = \"\"", "is empty"),
        ("port.kind = \"in_process\"", "roko devnet"),
        ("port.device = \"eth0\"", "net_af_packet0"),
        ("port.hugepages = \"yes\"", "neither true nor false"),
        ("port.memory_mb = 1", "64 to 1048576"),
        ("network.ip = \"0.0.0.0\"", "no address of one host"),
        ("network.port = 70000", "1 to 65535"),
        ("network.mac = \"01:00:00:00:00:00\"", "must be even"),
        ("network.memory_mb", "did you mean port.memory_mb?"),
        ("client[0].index = 7", "32768 to 65535"),
        ("client[0].node_key = \"abc\"", "64 hexadecimal digits"),
        ("client[0].ip = \"::ffff:10.0.0.1\"", "write 10.0.0.1"),
        ("client[0].port", "is missing"),
        ("neighbor", "[[neighbor]]"),
        ("rpc.listen = \"9944\"", "127.0.0.1:9944"),
        ("rpc.connections_max = -1", "1 to 65536"),
        ("mempol", "did you mean mempool?"),
    ];
    for (begins, says) in expected {
        let one = found.iter().filter(|text| text.starts_with(begins) && text.contains(says)).count();
        assert_eq!(one, 1, "{begins}: {says}\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn text_that_is_not_toml_names_its_line() {
    let found = problems("[node]\nname = \n");
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("not TOML") && found[0].contains("line 2"), "{}", found[0]);
}

#[test]
fn an_empty_file_misses_what_must_be_given_and_nothing_else() {
    let required = SECTIONS.iter().filter(|section| !section.list).flat_map(|section| {
        let needs = section.keys.iter().filter(|key| matches!(key.presence, Presence::Required(_)));
        needs.map(|key| format!("{}.{}", section.name, key.name))
    });
    let required: Vec<String> = required.collect();
    let found = problems("");
    assert_eq!(found.len(), required.len(), "{}", found.join("\n"));
    for (key, found) in required.iter().zip(&found) {
        assert!(found.starts_with(&format!("{key}: is missing")), "{found}");
    }
}

#[test]
fn the_example_parses_explains_every_key_and_equals_the_defaults() {
    let text = example(&[("node.bls_key", "\"bls.key\"".to_owned())]);
    let config = NodeConfig::parse(&text).unwrap_or_else(|found| panic!("{found:?}"));
    assert_eq!(config, NodeConfig::parse(LEAST).unwrap());
    for section in SECTIONS {
        for key in section.keys {
            assert!(text.contains(&format!("{} = ", key.name)), "{}.{}", section.name, key.name);
            let facts = text.lines().filter(|line| line.starts_with("# (") && line.contains(key.type_name));
            assert!(facts.count() > 0, "{}", key.type_name);
            assert!(key.doc.iter().all(|line| text.contains(line)), "{}.{}", section.name, key.name);
        }
    }
}

#[test]
fn every_commented_line_of_the_example_is_valid_too() {
    let text = example(&[]);
    let is_code = |line: &str| line.starts_with("#[") || (line.starts_with('#') && !line.starts_with("# "));
    let all: String = text
        .lines()
        .map(|line| if is_code(line) { &line[1..] } else { line })
        .fold(String::new(), |all, line| all + line + "\n");
    let config = NodeConfig::parse(&all).unwrap_or_else(|found| panic!("{found:?}\n{all}"));
    assert_eq!((config.clients.len(), config.neighbors.len()), (1, 1));
    assert_eq!(config.network.mac, Some(Mac([2, 0, 10, 77, 0, 1])));
    for (section, key) in
        SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
    {
        let (Presence::Required(text)
        | Presence::Default(text)
        | Presence::Optional(text)
        | Presence::Suggested(text)) = key.presence;
        let value = toml_value(text);
        let (number, ranged) = (value.as_integer().is_some(), key.range.is_some());
        assert_eq!(number, ranged, "{}.{}: numbers have a range", section.name, key.name);
    }
}

#[test]
fn keys_that_contradict_each_other_are_reported() {
    let with = |from: &str, to: &str| problems(&LEAST.replacen(from, to, 1)).join("\n");
    assert!(LEAST.contains("bls_key = \"bls.key\"\n"));
    assert!(with("bls_key = \"bls.key\"\n", "").starts_with("node.bls_key: is missing"));
    assert!(with("validator", "full").contains("does not vote"));
    assert!(with("net_af_packet0,iface=eth1", "0000:01:00.0").contains("set port.hugepages = true"));
    assert!(with("[port]", "[port]\nframes = 100000").contains("raise it to 267"));
    let listen = "[metrics]\nlisten = \"127.0.0.1:9944\"\n[network]";
    assert!(with("[network]", listen).contains("give each its own port"));
    let phc = with("[port]", "[port]\nstamps = \"poll\"\nphc = \"/dev/ptp0\"");
    assert!(phc.starts_with("port.phc") && phc.contains("take one of the two out"), "{phc}");
    let twice = "[[neighbor]]\nip = \"10.0.0.1\"\nmac = \"02:00:00:00:00:01\"\n".repeat(2);
    assert!(problems(&format!("{LEAST}{twice}")).join("\n").starts_with("neighbor[1].ip"));
}

#[test]
fn a_neighbor_without_an_entry_has_a_derived_address() {
    let entry = "[[neighbor]]\nip = \"10.77.0.9\"\nmac = \"aa:00:00:00:00:01\"\n";
    let config = NodeConfig::parse(&format!("{LEAST}{entry}")).unwrap();
    let mac = |ip: &str| config.mac_of(&ip.parse().unwrap()).to_string();
    assert_eq!(
        (mac("10.77.0.9").as_str(), mac("10.77.0.2").as_str()),
        ("aa:00:00:00:00:01", "02:00:0a:4d:00:02")
    );
}

/// A folder with the files of the first of four validators.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let chain = devnet_genesis(4, 1, Preset::Balanced, DEVNET_CHAIN_ID, b"config", NanoMoment(1)).unwrap();
    std::fs::write(at("genesis.json"), chain.genesis.to_json()).unwrap();
    chain.node_identities[0].save(&at("node.key")).unwrap();
    chain.node_identities[1].save(&at("other.key")).unwrap();
    save_bls(&chain.bls_keys[0], &at("bls.key")).unwrap();
    std::fs::write(at("node.toml"), LEAST).unwrap();
    folder
}

#[test]
fn files_are_found_beside_the_configuration_and_must_belong_together() {
    let folder = folder();
    let path = folder.path().join("node.toml");
    let config = NodeConfig::load(&path).unwrap_or_else(|found| panic!("{found:?}"));
    assert_eq!(config.node.genesis, folder.path().join("genesis.json"));
    assert_eq!(config.node.bls_key, Some(folder.path().join("bls.key")));
    assert!(!folder.path().join("data").exists(), "checking makes nothing");

    let refused = |from: &str, to: &str| {
        std::fs::write(&path, LEAST.replacen(from, to, 1)).unwrap();
        let found = NodeConfig::load(&path).unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(refused("node.key", "none.key").contains("none.key"));
    assert!(refused("genesis.json", "bls.key").starts_with("node.genesis"));
    assert!(refused("\"bls.key\"", "\"node.key\"").starts_with("node.bls_key"));
    let other = refused("node.key", "other.key");
    assert!(other.contains("node.bls_key") && other.contains("genesis has 10.77.0.2"), "{other}");
    assert!(refused("10.77.0.1", "10.77.0.3").contains("genesis has 10.77.0.1"));
    assert!(refused("[network]", "[tuning]\nprofile = \"fast\"\n[network]").contains("devnet-2core"));
    assert!(
        refused("[network]", "[clock]\nuntraceable_bound_us = 200000\n[network]").contains("never propose")
    );
    let clock = |keys: &str| refused("[network]", &format!("[clock]\n{keys}\n[network]"));
    let missing = clock("source = \"/dev/ptp4095\"");
    assert!(missing.contains("clock.source") && missing.contains("ls /dev/ptp*"), "{missing}");
    let above = clock("source = \"/dev/null\"\nphc_bound_ns = 900000000");
    assert!(above.starts_with("clock.phc_bound_ns") && above.contains("never propose"), "{above}");
    let wrong = clock("source = \"gps\"\nphc_timescale = \"ut1\"\nphc_reference = \"chrony\"");
    assert!(
        ["clock.source", "clock.phc_timescale", "clock.phc_reference"].iter().all(|key| wrong.contains(key)),
        "{wrong}"
    );
    assert!(refused("[port]", "[port]\nphc = \"/dev/ptp4095\"").contains("port.phc"));
    assert!(refused("data_dir = \"data\"", "data_dir = \"bls.key\"").contains("name a folder"));
    let client = format!(
        "[[client]]\nindex = 32768\nip = \"10.0.0.1\"\nport = 1\nnode_key = \"{}\"\n[network]",
        hex::encode(roko_peers::NodeIdentity::load(&folder.path().join("other.key")).unwrap().node_key().0)
    );
    assert!(refused("[network]", &client).contains("same node key"));
    let missing = NodeConfig::load(&folder.path().join("none.toml")).unwrap_err();
    assert!(missing[0].to_string().contains("roko config example"));
}

#[test]
fn a_link_that_cannot_be_is_refused_by_name() {
    let with = |port: &str, own: &str| {
        let given = [("node.bls_key", "\"bls.key\"".to_owned()), ("network.ip", format!("\"{own}\""))];
        let text = example(&given).replacen("neighbours = \"derived\"", port, 1);
        NodeConfig::parse(&text).map_or_else(
            |found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            |_| String::new(),
        )
    };
    let resolve = |more: &str| with(&format!("neighbours = \"resolve\"\n{more}"), "10.77.0.1");
    assert_eq!(resolve("prefix = 24"), "");
    assert_eq!(resolve("prefix = 24\ngateway = \"10.77.0.254\""), "");
    for (more, says) in [
        ("", "port.prefix: is missing"),
        ("prefix = 33", "set 0 to 32"),
        ("prefix = 24\ngateway = \"10.77.1.254\"", "not on the link"),
        ("prefix = 24\ngateway = \"10.77.0.1\"", "this node's own address"),
        ("prefix = 24\ngateway = \"fe80::1\"", "another family"),
    ] {
        let said = resolve(more);
        assert!(said.contains(says), "{more}: {said}");
    }
    let six = with("neighbours = \"resolve\"\nprefix = 64\ngateway = \"fe80::1\"", "2001:db8::1");
    assert_eq!(six, "");
    let uring = example(&[]).replacen("kind = \"dpdk\"", "kind = \"io_uring\"", 1).replacen(
        "mtu = 1500",
        "mtu = 9000",
        1,
    );
    let uring =
        problems(&uring.replacen("neighbours = \"derived\"", "neighbours = \"resolve\"", 1)).join("; ");
    assert!(uring.contains("the kernel finds peers") && uring.contains("port.mtu = 9000"), "{uring}");
}

/// The files that an operator starts from, beside the keys and the genesis that `roko genesis new` makes.
#[test]
fn the_examples_for_systemd_are_good_configurations() {
    let chain = devnet_genesis(4, 1, Preset::Balanced, DEVNET_CHAIN_ID, b"examples", NanoMoment(1 << 60))
        .expect("a genesis");
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/systemd");
    for name in ["validator.toml", "validator-io_uring.toml", "full.toml"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |file: &str| folder.path().join(file);
        std::fs::write(at("genesis.json"), chain.genesis.to_json()).expect("written");
        chain.node_identities[0].save(&at("node.key")).expect("written");
        save_bls(&chain.bls_keys[0], &at("bls.key")).expect("written");
        std::fs::copy(examples.join(name), at("node.toml")).expect("the example is there");
        let loaded = NodeConfig::load(&at("node.toml"));
        assert!(loaded.is_ok(), "{name}: {:?}", loaded.err());
    }
    let unit = std::fs::read_to_string(examples.join("roko.service")).expect("the unit is there");
    for needed in ["ExecStart=/usr/local/bin/roko run --config /etc/roko/node.toml", "StateDirectory=roko"] {
        assert!(unit.contains(needed), "{needed}");
    }
}
