//! Key files of accounts and of BLS keys: JSON that only its owner may read. Node keys are the peers crate's.

use super::{AccountKey, AccountsError, Scheme};
use roko_consensus::bls::SecretKey;
use roko_peers::NodeIdentity;
use roko_wire::Address;
use roko_wire::genesis::{BlsPublicKey, NodeKey, ProofOfPossession};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// A secret in hexadecimal, wiped when dropped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Secret(String);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secret {
    fn of(bytes: &[u8; 32]) -> Secret {
        Secret(hex::encode(bytes))
    }

    fn bytes(&self) -> Result<Zeroizing<[u8; 32]>, String> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(self.0.as_str(), bytes.as_mut_slice())
            .map_err(|_| "its secret is not 32 bytes in hexadecimal".to_owned())?;
        Ok(bytes)
    }
}

/// The file's JSON. The public part is there so that keys can be told apart without the secret, and is checked against
/// it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Contents {
    Account { scheme: Scheme, secret: Secret, address: Address },
    Bls { secret: Secret, public_key: BlsPublicKey, proof_of_possession: ProofOfPossession },
}

/// The public part of a key file of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum KeyFile {
    /// A node's ed25519 key.
    Node {
        /// As genesis lists it.
        node_key: NodeKey,
    },
    /// A validator's voting key.
    Bls {
        /// As genesis lists it.
        public_key: BlsPublicKey,
        /// Proof that its holder knows the secret.
        proof_of_possession: ProofOfPossession,
    },
    /// An account's key.
    Account {
        /// How it signs.
        scheme: Scheme,
        /// The account.
        address: Address,
    },
}

impl KeyFile {
    /// Reads the public part of a key file, whatever its kind, and checks it against the secret.
    pub fn read(path: &Path) -> Result<KeyFile, AccountsError> {
        let text = read_private(path)?;
        let kind = serde_json::from_str::<Kind>(&text).ok();
        let bad = |what: String| AccountsError::KeyFile { path: path.to_owned(), want: "readable", what };
        match kind {
            Some(Kind { kind: None, algorithm: Some(_) }) => {
                let identity = NodeIdentity::load(path).map_err(|error| bad(error.to_string()))?;
                Ok(KeyFile::Node { node_key: identity.node_key() })
            }
            Some(Kind { kind: Some(kind), .. }) if kind == "bls" => Ok(KeyFile::of_bls(&load_bls(path)?)),
            Some(Kind { kind: Some(kind), .. }) if kind == "account" => {
                let key = load_account(path)?;
                Ok(KeyFile::Account { scheme: key.scheme(), address: key.address() })
            }
            _ => {
                Err(bad("it is not JSON with the \"kind\" \"bls\" or \"account\", nor a node key".to_owned()))
            }
        }
    }

    /// The public part of a voting key.
    #[must_use]
    pub fn of_bls(key: &SecretKey) -> KeyFile {
        KeyFile::Bls {
            public_key: BlsPublicKey(key.public_key().to_bytes()),
            proof_of_possession: ProofOfPossession(key.prove_possession()),
        }
    }
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
    algorithm: Option<String>,
}

/// Writes a new key file of an account; an existing file is never overwritten.
pub fn save_account(key: &AccountKey, path: &Path) -> Result<(), AccountsError> {
    let contents =
        Contents::Account { scheme: key.scheme(), secret: Secret::of(&key.secret), address: key.address() };
    save(&contents, path)
}

/// Reads the key file of an account.
pub fn load_account(path: &Path) -> Result<AccountKey, AccountsError> {
    let bad = |what: String| AccountsError::KeyFile { path: path.to_owned(), want: "account", what };
    let Contents::Account { scheme, secret, address } = load(path, "account")? else {
        return Err(bad("it is a validator's BLS key".to_owned()));
    };
    let secret = secret.bytes().map_err(bad)?;
    let key = AccountKey::from_secret(scheme, &secret);
    let key = key.ok_or_else(|| bad(format!("its secret is no {} key", scheme.name())))?;
    if key.address() != address {
        return Err(bad("its address is not the secret's".to_owned()));
    }
    Ok(key)
}

/// Writes a new key file of a validator's voting key; an existing file is never overwritten.
pub fn save_bls(key: &SecretKey, path: &Path) -> Result<(), AccountsError> {
    let contents = Contents::Bls {
        secret: Secret::of(&key.to_bytes()),
        public_key: BlsPublicKey(key.public_key().to_bytes()),
        proof_of_possession: ProofOfPossession(key.prove_possession()),
    };
    save(&contents, path)
}

/// Reads the key file of a validator's voting key.
pub fn load_bls(path: &Path) -> Result<SecretKey, AccountsError> {
    let bad = |what: String| AccountsError::KeyFile { path: path.to_owned(), want: "BLS", what };
    let Contents::Bls { secret, public_key, .. } = load(path, "BLS")? else {
        return Err(bad("it is an account's key".to_owned()));
    };
    let secret = secret.bytes().map_err(bad)?;
    let key = SecretKey::from_bytes(&secret).map_err(|error| bad(error.to_string()))?;
    if key.public_key().to_bytes() != public_key.0 {
        return Err(bad("its public key is not the secret's".to_owned()));
    }
    Ok(key)
}

fn save(contents: &Contents, path: &Path) -> Result<(), AccountsError> {
    let text = serde_json::to_string_pretty(contents).expect("text fields only");
    create_private(path, Zeroizing::new(text).as_bytes())
}

fn load(path: &Path, want: &'static str) -> Result<Contents, AccountsError> {
    let text = read_private(path)?;
    serde_json::from_str(&text).map_err(|error| AccountsError::KeyFile {
        path: path.to_owned(),
        want,
        what: error.to_string(),
    })
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, AccountsError> {
    let failed = |action| move |source| AccountsError::File { path: path.to_owned(), action, source };
    let mode = fs::metadata(path).map_err(failed("reading its permissions"))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AccountsError::Readable { path: path.to_owned(), mode });
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(failed("reading it"))
}

/// Creates a file that only its owner may read, durably; it fails when the file exists.
pub fn create_private(path: &Path, contents: &[u8]) -> Result<(), AccountsError> {
    let failed = |action| move |source| AccountsError::File { path: path.to_owned(), action, source };
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => AccountsError::Exists { path: path.to_owned() },
        _ => failed("creating it")(source),
    })?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed("writing it"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("syncing its folder"))
}
