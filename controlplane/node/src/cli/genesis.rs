//! `roko genesis`: makes a chain with all its files, and says what a genesis file means.

use super::config::write_new;
use super::{CliError, CliResult};
use crate::accounts::{
    DEVNET_CHAIN_ID, DevnetGenesis, devnet_genesis, format_roko, random_seed, save_account, save_bls,
};
use crate::chain;
use crate::config::example;
use clap::{Args, Subcommand};
use roko_consensus::{Preset, Quorums};
use roko_peers::membership::derived_mac;
use roko_wire::genesis::{Genesis, GenesisValidator};
use roko_wire::limits::VALIDATORS_MAX;
use roko_wire::{ChainId, NanoMoment};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What to do with a genesis file.
#[derive(Debug, Subcommand)]
pub enum GenesisCommand {
    /// Make a chain: genesis.json, and for each validator its keys and a node.toml, and accounts with ROKO.
    #[command(after_help = "\
Examples:
  roko genesis new --validators 4 --output chain
  roko genesis new --validators 7 --preset fast --chain-id 42 --output chain
Then `roko genesis inspect chain/genesis.json`, set port.device in each chain/validator-N/node.toml, and on each host
`roko run --config chain/validator-N/node.toml`. Give each host its own folder and genesis.json, nothing else.")]
    New(NewGenesis),
    /// Check a genesis file and say what it means: hash, validators, quorums in validators, limits, supply.
    #[command(after_help = "\
Examples:
  roko genesis inspect genesis.json           compare the hash with other operators' before the chain starts
  roko genesis inspect genesis.json --json")]
    Inspect {
        /// The genesis file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `roko genesis new`.
#[derive(Debug, Args)]
pub struct NewGenesis {
    /// How many validators.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=VALIDATORS_MAX as i64))]
    validators: u16,
    /// How quorums are chosen: classic (most faults tolerated), balanced, or fast (largest fast path).
    #[arg(long, default_value = "balanced")]
    preset: Preset,
    /// The chain's number, part of every signature: give each chain its own.
    #[arg(long, default_value_t = DEVNET_CHAIN_ID.0)]
    chain_id: u64,
    /// Accounts with 1,000,000 ROKO each.
    #[arg(long, default_value_t = 4)]
    accounts: u32,
    /// Derive every key from this text instead of the host's randomness. For tests: whoever knows it holds every key.
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// The folder; it must not hold a chain yet.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
}

/// Carries the command out.
pub fn run(command: &GenesisCommand) -> CliResult {
    let text = match command {
        GenesisCommand::New(new) => make(new)?,
        GenesisCommand::Inspect { file, json: false } => describe(&read(file)?)?,
        GenesisCommand::Inspect { file, json: true } => {
            serde_json::to_string_pretty(&to_json(&read(file)?)?).expect("text keys only")
        }
    };
    println!("{text}");
    Ok(())
}

fn make(new: &NewGenesis) -> Result<String, CliError> {
    let words = |error: &dyn core::fmt::Display| CliError(error.to_string());
    let random = random_seed().map_err(|error| words(&error))?;
    let seed = new.seed.as_ref().map_or(random.as_slice(), |seed| seed.as_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Whole seconds: the start of a chain is read by people.
    let time = NanoMoment(u128::from(now.as_secs()) * 1_000_000_000);
    let preset = wire_preset(new.preset);
    let chain = devnet_genesis(new.validators, new.accounts, preset, ChainId(new.chain_id), seed, time)
        .map_err(|error| words(&error))?;
    quorums(&chain.genesis)?;
    write(&chain, &new.output)?;
    let folder = new.output.display();
    Ok(format!(
        "{}\n\nwritten to {folder}: genesis.json, validator-1 to validator-{}, accounts\nNext: set port.device in each \
         validator's node.toml, then `roko config check {folder}/validator-1/node.toml`",
        describe(&chain.genesis)?,
        new.validators
    ))
}

/// Writes a chain's files. The genesis file comes first: where one is, nothing is written.
fn write(chain: &DevnetGenesis, folder: &Path) -> CliResult {
    let failed = |path: &Path, error: &dyn core::fmt::Display| {
        CliError::with(format!("{} cannot be written", path.display()), error)
    };
    let make_folder = |path: &Path| std::fs::create_dir_all(path).map_err(|error| failed(path, &error));
    make_folder(folder)?;
    write_new(&folder.join("genesis.json"), &chain.genesis.to_json())?;
    for (index, validator) in chain.genesis.validators.iter().enumerate() {
        let own = folder.join(format!("validator-{}", index + 1));
        make_folder(&own)?;
        let keys = own.join("node.key");
        chain.node_identities[index].save(&keys).map_err(|error| failed(&keys, &error))?;
        save_bls(&chain.bls_keys[index], &own.join("bls.key")).map_err(|error| failed(&own, &error))?;
        let withdrawal = own.join("withdrawal.key");
        save_account(&chain.withdrawals[index], &withdrawal).map_err(|error| failed(&own, &error))?;
        let file = example(&node_values(index, validator)) + &peer_entries(index, &chain.genesis);
        write_new(&own.join("node.toml"), &file)?;
    }
    let accounts = folder.join("accounts");
    make_folder(&accounts)?;
    for (index, key) in chain.accounts.iter().enumerate() {
        let path = accounts.join(format!("account-{}.key", index + 1));
        save_account(key, &path).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// What differs between the validators' files. Service ports differ too, so that all can run on one host.
fn node_values(index: usize, validator: &GenesisValidator) -> Vec<(&'static str, String)> {
    let (ip, number) = (validator.endpoint.ip, index + 1);
    vec![
        ("node.name", format!("\"roko-{number}\"")),
        ("node.genesis", "\"../genesis.json\"".to_owned()),
        ("node.bls_key", "\"bls.key\"".to_owned()),
        ("port.device", format!("\"net_af_packet0,iface=roko{number}\"")),
        ("network.ip", format!("\"{ip}\"")),
        ("network.port", validator.endpoint.port.to_string()),
        ("network.mac", format!("\"{}\"", derived_mac(&ip))),
        ("handshake.listen", format!("\"0.0.0.0:{}\"", HANDSHAKE_PORT + index)),
        ("rpc.listen", format!("\"127.0.0.1:{}\"", 9_944 + index)),
        // Below the RPC ports, however many validators there are.
        ("metrics.listen", format!("\"127.0.0.1:{}\"", 9_615 + index)),
    ]
}

/// The port at which the first validator listens for handshakes.
const HANDSHAKE_PORT: usize = 7_701;

/// Where the other validators listen: the kernel's address of each host, which is theirs to name.
fn peer_entries(index: usize, genesis: &Genesis) -> String {
    let mut out =
        String::from("\n# Correct each address to the one that the validator's kernel answers on.\n");
    for (other, validator) in genesis.validators.iter().enumerate().filter(|(other, _)| *other != index) {
        let address = SocketAddr::new(validator.endpoint.ip, (HANDSHAKE_PORT + other) as u16);
        out.push_str(&format!("[[peer]]\nindex = {other}\nhandshake = \"{address}\"\n"));
    }
    out
}

fn wire_preset(preset: Preset) -> roko_wire::genesis::Preset {
    match preset {
        Preset::Classic => roko_wire::genesis::Preset::Classic,
        Preset::Balanced => roko_wire::genesis::Preset::Balanced,
        Preset::Fast => roko_wire::genesis::Preset::Fast,
    }
}

fn read(file: &Path) -> Result<Genesis, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| CliError::with(format!("{} cannot be read", file.display()), error))?;
    Genesis::parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        CliError(format!("{} is no usable genesis:\n{}", file.display(), lines.join("\n")))
    })
}

fn stakes(genesis: &Genesis) -> Vec<u64> {
    genesis.validators.iter().map(|validator| validator.stake_roko).collect()
}

fn quorums(genesis: &Genesis) -> Result<Quorums, CliError> {
    Quorums::for_stakes(chain::preset(genesis.preset), &stakes(genesis))
        .map_err(|error| CliError::with("the preset cannot work with these validators", error))
}

/// What the file means, for a person. Keys and proofs are checked too.
fn describe(genesis: &Genesis) -> Result<String, CliError> {
    let quorums = quorums(genesis)?;
    chain::Chain::new(genesis.clone()).map_err(|error| CliError(error.to_string()))?;
    let mut lines = vec![
        format!("genesis hash        {}", genesis.hash()),
        format!("chain id            {}", genesis.chain_id),
        format!("begins at           {} ns since 1970", genesis.time),
        format!("preset              {}", chain::preset(genesis.preset)),
        quorums.describe(&stakes(genesis)).to_string(),
        "  f: stake that may lie. p: stake that may be silent while blocks still commit in one round.".to_owned(),
        "  S certifies a block, C certifies it on the fast path, F commits it in one round, N is waited for before"
            .to_owned(),
        "  a view is skipped. \"at least\" counts the largest validators first.".to_owned(),
    ];
    lines.push("validators".to_owned());
    lines.extend(genesis.validators.iter().enumerate().map(|(index, validator)| {
        let endpoint = &validator.endpoint;
        let (stake, key) = (validator.stake_roko, hex::encode(&validator.node_key.0[..8]));
        format!("  {index:>3}  {stake:>10} ROKO  {}:{}  node key {key}…", endpoint.ip, endpoint.port)
    }));
    lines.push("limits (the unit is the name's end)".to_owned());
    let limits = serde_json::to_value(&genesis.limits).expect("numbers only");
    let limits = limits.as_object().into_iter().flatten();
    lines.extend(limits.map(|(name, value)| format!("  {name:<32} {value}")));
    let supply = genesis.supply().map_or_else(|| "over 2^256".to_owned(), format_roko);
    lines.push(format!("supply              {supply} ROKO in {} accounts", genesis.balances.len()));
    Ok(lines.join("\n"))
}

/// The same for a program.
fn to_json(genesis: &Genesis) -> Result<serde_json::Value, CliError> {
    let q = quorums(genesis)?;
    let report = q.describe(&stakes(genesis));
    chain::Chain::new(genesis.clone()).map_err(|error| CliError(error.to_string()))?;
    Ok(serde_json::json!({
        "hash": genesis.hash(),
        "chain_id": genesis.chain_id.0.to_string(),
        "time": genesis.time,
        "preset": genesis.preset,
        "quorums_roko": {
            "total": q.total, "byzantine": q.byzantine, "silent": q.silent, "slow": q.slow,
            "fast_certificate": q.fast_certificate, "fast_commit": q.fast_commit, "wait": q.wait,
        },
        "quorums_validators": {
            "total": report.validators, "byzantine": report.byzantine_any, "silent": report.silent_any,
            "slow": report.slow, "fast_certificate": report.fast_certificate, "fast_commit": report.fast_commit,
            "wait": report.wait,
        },
        "validators": genesis.validators,
        "limits": genesis.limits,
        "accounts": genesis.balances.len(),
        "supply_roko": genesis.supply().map(format_roko),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::load_account;
    use crate::config::NodeConfig;

    fn new(folder: &Path, validators: u16, preset: Preset) -> NewGenesis {
        NewGenesis { validators, preset, chain_id: 9, accounts: 2, seed: None, output: folder.join("chain") }
    }

    #[test]
    fn a_new_chains_files_pass_every_check_and_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let text = make(&new(folder.path(), 4, Preset::Balanced)).unwrap();
        let at = folder.path().join("chain");
        let mut ports = Vec::new();
        for number in 1..=4 {
            let config = NodeConfig::load(&at.join(format!("validator-{number}/node.toml")))
                .unwrap_or_else(|problems| panic!("{problems:?}"));
            assert_eq!(config.network.mac, Some(config.mac_of(&config.network.ip)), "peers find it");
            ports.extend([config.rpc.listen, config.metrics.listen, config.handshake.listen]);
        }
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 12);
        let genesis = read(&at.join("genesis.json")).unwrap();
        let rich = load_account(&at.join("accounts/account-2.key")).unwrap();
        assert_eq!(genesis.balances[1].address, rich.address());
        for says in
            [genesis.hash().to_string().as_str(), "at least 3 of 4", "supply              2000000 ROKO"]
        {
            assert!(text.contains(says), "{says}\n{text}");
        }
        let refusal = make(&new(folder.path(), 4, Preset::Balanced)).unwrap_err().to_string();
        assert!(refusal.contains("not overwritten"), "{refusal}");
        assert_eq!(read(&at.join("genesis.json")).unwrap(), genesis);
    }

    #[test]
    fn a_preset_that_tolerates_nobody_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = make(&new(folder.path(), 4, Preset::Fast)).unwrap_err().to_string();
        assert!(refusal.contains("\"classic\" or \"balanced\""), "{refusal}");
        assert!(!folder.path().join("chain").exists());
    }

    #[test]
    fn a_seed_gives_the_same_keys_and_json_says_what_text_says() {
        let folder = tempfile::tempdir().unwrap();
        let seeded = |name: &str| {
            let new = NewGenesis {
                seed: Some("x".to_owned()),
                ..new(&folder.path().join(name), 4, Preset::Classic)
            };
            make(&new).unwrap();
            read(&new.output.join("genesis.json")).unwrap()
        };
        let (one, two) = (seeded("one"), seeded("two"));
        assert_eq!((&one.validators, &one.balances), (&two.validators, &two.balances));
        let json = to_json(&one).unwrap();
        assert_eq!(json["hash"], one.hash().to_string());
        assert_eq!(json["quorums_validators"]["byzantine"], 1);
        assert_eq!(json["supply_roko"], "2000000");
    }

    #[test]
    fn a_changed_key_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let new = new(folder.path(), 4, Preset::Balanced);
        make(&new).unwrap();
        let mut genesis = read(&new.output.join("genesis.json")).unwrap();
        genesis.validators[2].bls_proof = genesis.validators[1].bls_proof;
        let refusal = describe(&genesis).unwrap_err().to_string();
        assert!(refusal.contains("validators[2].bls_proof"), "{refusal}");
    }
}
