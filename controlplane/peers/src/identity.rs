//! This node's key: ed25519, for stamps, proposals and the certificate of handshakes.

use crate::error::PeersError;
use crate::file;
use ed25519_zebra::{SigningKey, VerificationKey};
use roko_wire::genesis::NodeKey;
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// The algorithm that a key file names.
const ALGORITHM: &str = "ed25519";

/// A node's secret key. It is wiped when it is dropped, and so is the seed.
pub struct NodeIdentity {
    seed: Zeroizing<[u8; 32]>,
    signing: SigningKey,
}

impl Drop for NodeIdentity {
    fn drop(&mut self) {
        self.signing.zeroize();
    }
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeIdentity").field("node_key", &self.node_key()).finish_non_exhaustive()
    }
}

/// The key file's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    algorithm: String,
    /// The seed of RFC 8032, hexadecimal.
    secret: String,
    /// The public key, so that one can tell keys apart without the secret.
    public: NodeKey,
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl NodeIdentity {
    /// The identity of a seed, which the caller draws from a secure source.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> NodeIdentity {
        NodeIdentity { seed: Zeroizing::new(*seed), signing: SigningKey::from(*seed) }
    }

    /// Reads a key file. One that others may read is refused.
    pub fn load(path: &Path) -> Result<NodeIdentity, PeersError> {
        file::require_private(path)?;
        let text = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(PeersError::file(path, "reading it"))?;
        let bad = |what: String| PeersError::KeyFile { path: path.to_owned(), what };
        let file: KeyFile = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if file.algorithm != ALGORITHM {
            return Err(bad(format!(
                "its algorithm is \"{}\"; this node uses \"{ALGORITHM}\"",
                file.algorithm
            )));
        }
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(file.secret.as_str(), seed.as_mut_slice())
            .map_err(|_| bad("its secret is not 32 bytes in hexadecimal".to_owned()))?;
        let identity = NodeIdentity::from_seed(&seed);
        if identity.node_key() != file.public {
            return Err(bad("its public key is not the secret's".to_owned()));
        }
        Ok(identity)
    }

    /// Writes a key file that only its owner may read. It fails when the file exists.
    pub fn save(&self, path: &Path) -> Result<(), PeersError> {
        let file = KeyFile {
            algorithm: ALGORITHM.to_owned(),
            secret: hex::encode(*self.seed),
            public: self.node_key(),
        };
        let text = Zeroizing::new(serde_json::to_string_pretty(&file).expect("three text fields"));
        file::create_private(path, text.as_bytes())
    }

    /// The public key, as genesis lists it.
    #[must_use]
    pub fn node_key(&self) -> NodeKey {
        NodeKey(VerificationKey::from(&self.signing).into())
    }

    /// The key that signs stamps and proposals.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_reads_back_is_private_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let identity = NodeIdentity::from_seed(&[7; 32]);
        identity.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(NodeIdentity::load(&path).unwrap().node_key(), identity.node_key());
        assert!(matches!(identity.save(&path), Err(PeersError::File { .. })));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refusal = NodeIdentity::load(&path).map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains("chmod 600") && refusal.contains("640"), "{refusal}");
    }

    #[test]
    fn a_damaged_key_file_says_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        NodeIdentity::from_seed(&[7; 32]).save(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let other = hex::encode(NodeIdentity::from_seed(&[8; 32]).node_key().0);
        let public = hex::encode(NodeIdentity::from_seed(&[7; 32]).node_key().0);
        for (from, to, says) in [
            ("ed25519", "ed448", "algorithm"),
            ("0707", "07zz", "hexadecimal"),
            (public.as_str(), other.as_str(), "not the secret's"),
            ("secret", "sekret", "unknown field"),
        ] {
            assert!(good.contains(from));
            fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let refusal = NodeIdentity::load(&path).map(|_| ()).unwrap_err().to_string();
            assert!(refusal.contains(says), "{refusal}");
        }
    }
}
