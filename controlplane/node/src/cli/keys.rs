//! `roko keys`: makes and shows the keys of nodes, validators and accounts. No secret is ever printed.

use super::{CliError, CliResult};
use crate::accounts::{AccountKey, KeyFile, Scheme, load_bls, random_seed, save_account, save_bls};
use clap::{Args, Subcommand, ValueEnum};
use roko_consensus::bls::SecretKey;
use roko_peers::NodeIdentity;
use std::path::{Path, PathBuf};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make one key, write it to a file that only you may read, and print its public part.
    #[command(after_help = "\
Examples:
  roko keys new --kind account --output alice.key        an account; prints its address
  roko keys new --kind account --scheme secp256k1        the same address as on Ethereum
  roko keys new --kind node --output node.key            what a node signs stamps and proposals with
  roko keys new --kind bls --output bls.key              what a validator votes with
A key file is never overwritten. Whoever has it is you: keep a copy offline.")]
    New(NewKey),
    /// Print the public part of a key file of any kind.
    #[command(after_help = "\
Examples:
  roko keys show alice.key
  roko keys show alice.key --json")]
    Show {
        /// The key file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make everything that a validator needs: node key, voting key, withdrawal account.
    #[command(after_help = "\
Examples:
  roko keys validator --output-dir validator-1
Give the public parts that it prints to whoever writes genesis; keep the files. withdrawal.key belongs offline: the
node never reads it.")]
    Validator {
        /// The folder for node.key, bls.key and withdrawal.key; it is made when it is not there.
        #[arg(long, value_name = "DIR")]
        output_dir: PathBuf,
    },
}

/// Arguments of `roko keys new`.
#[derive(Debug, Args)]
pub struct NewKey {
    /// What the key is for.
    #[arg(long)]
    kind: Kind,
    /// The file [default: node.key, bls.key or account.key].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How an account signs [default: ed25519]
    #[arg(long)]
    scheme: Option<Scheme>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A node's identity: ed25519.
    Node,
    /// A validator's votes: BLS12-381.
    Bls,
    /// Holds ROKO.
    Account,
}

/// Carries the command out.
pub fn run(command: &KeysCommand) -> CliResult {
    let text = match command {
        KeysCommand::New(new) => make(new)?,
        KeysCommand::Show { file, json } => {
            let public = KeyFile::read(file).map_err(words)?;
            if *json { to_json(&public) } else { describe(&public) }
        }
        KeysCommand::Validator { output_dir } => make_validator(output_dir)?,
    };
    println!("{text}");
    Ok(())
}

fn words(error: impl core::fmt::Display) -> CliError {
    CliError(error.to_string())
}

fn make(new: &NewKey) -> Result<String, CliError> {
    if new.scheme.is_some() && new.kind != Kind::Account {
        return Err(CliError(
            "--scheme is for accounts: node keys are ed25519, voting keys BLS12-381".to_owned(),
        ));
    }
    let name = match new.kind {
        Kind::Node => "node.key",
        Kind::Bls => "bls.key",
        Kind::Account => "account.key",
    };
    let path = new.output.clone().unwrap_or_else(|| PathBuf::from(name));
    let public = match new.kind {
        Kind::Node => new_node(&path)?,
        Kind::Bls => new_bls(&path)?,
        Kind::Account => new_account(&path, new.scheme.unwrap_or_default())?,
    };
    Ok(format!("{}\nsecret in {}: keep it, and a copy offline", describe(&public), path.display()))
}

fn new_node(path: &Path) -> Result<KeyFile, CliError> {
    let identity = NodeIdentity::from_seed(&*random_seed().map_err(words)?);
    // The peers crate says which file; that an existing one is never overwritten is said here.
    if path.exists() {
        let path = path.display();
        return Err(CliError(format!(
            "{path} exists and a key is never overwritten: move it away, or name another file"
        )));
    }
    identity.save(path).map_err(words)?;
    Ok(KeyFile::Node { node_key: identity.node_key() })
}

fn new_bls(path: &Path) -> Result<KeyFile, CliError> {
    let key = SecretKey::from_seed(random_seed().map_err(words)?.as_slice()).map_err(words)?;
    save_bls(&key, path).map_err(words)?;
    // What is on disk is what counts: it is read back.
    Ok(KeyFile::of_bls(&load_bls(path).map_err(words)?))
}

fn new_account(path: &Path, scheme: Scheme) -> Result<KeyFile, CliError> {
    let key = AccountKey::generate(scheme).map_err(words)?;
    save_account(&key, path).map_err(words)?;
    Ok(KeyFile::Account { scheme, address: key.address() })
}

fn make_validator(folder: &Path) -> Result<String, CliError> {
    let failed = |error| CliError::with(format!("{} cannot be made", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    // Nothing is written when one of the files exists: three keys of one validator are made together.
    for name in ["node.key", "bls.key", "withdrawal.key"] {
        let path = folder.join(name);
        if path.exists() {
            let path = path.display();
            return Err(CliError(format!(
                "{path} exists and a key is never overwritten: name another folder"
            )));
        }
    }
    let public = [
        new_node(&folder.join("node.key"))?,
        new_bls(&folder.join("bls.key"))?,
        new_account(&folder.join("withdrawal.key"), Scheme::Ed25519)?,
    ];
    let lines: Vec<String> = public.iter().map(describe).collect();
    let folder = folder.display();
    Ok(format!(
        "{}\nsecrets in {folder}: keep withdrawal.key offline, the node never reads it",
        lines.join("\n")
    ))
}

/// The public part in words.
fn describe(public: &KeyFile) -> String {
    match public {
        KeyFile::Node { node_key } => format!("node key             {}", hex::encode(node_key.0)),
        KeyFile::Bls { public_key, proof_of_possession } => format!(
            "BLS public key       {}\nproof of possession  {}",
            hex::encode(public_key.0),
            hex::encode(proof_of_possession.0)
        ),
        KeyFile::Account { scheme, address } => format!("address              {address} ({})", scheme.name()),
    }
}

fn to_json(public: &KeyFile) -> String {
    serde_json::to_string_pretty(public).expect("text fields only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_validators_keys_are_private_public_parts_are_printed_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let text = make_validator(folder.path()).unwrap();
        for name in ["node.key", "bls.key", "withdrawal.key"] {
            let path = folder.path().join(name);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            let public = KeyFile::read(&path).unwrap();
            assert!(text.contains(&describe(&public)), "{name}");
            let file: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let secret = file["secret"].as_str().unwrap();
            assert_eq!(secret.len(), 64);
            assert!(!text.contains(secret) && !to_json(&public).contains(secret), "{name}");
        }
        let refusal = make_validator(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains("never overwritten"), "{refusal}");
        for kind in [Kind::Node, Kind::Bls, Kind::Account] {
            let output = Some(folder.path().join("node.key"));
            let refusal = make(&NewKey { kind, output, scheme: None }).unwrap_err().to_string();
            assert!(refusal.contains("never overwritten"), "{refusal}");
        }
    }

    #[test]
    fn a_scheme_is_for_accounts() {
        let new = NewKey { kind: Kind::Bls, output: None, scheme: Some(Scheme::Secp256k1) };
        assert!(make(&new).unwrap_err().to_string().contains("for accounts"));
    }
}
