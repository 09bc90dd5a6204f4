//! This node's key: ed25519 for stamps and proposals, and its X25519 form for session keys.
//!
//! The X25519 secret is the clamped lower half of SHA-512 of the ed25519 seed (RFC 8032, 5.1.5), so the X25519 public
//! key is the Montgomery form of the ed25519 public key (RFC 7748, 4.1): peers need to know one key only.

use crate::error::PeersError;
use crate::file;
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_zebra::{SigningKey, VerificationKey};
use roko_wire::genesis::NodeKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};
use std::path::Path;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// The algorithm that a key file names.
const ALGORITHM: &str = "ed25519";

/// A node's secret key. The X25519 secret is wiped when it is dropped, and so is the seed.
pub struct NodeIdentity {
    seed: Zeroizing<[u8; 32]>,
    signing: SigningKey,
    exchange: StaticSecret,
}

impl Drop for NodeIdentity {
    fn drop(&mut self) {
        self.signing.zeroize();
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
        let mut hash = Sha512::digest(seed);
        let mut half = Zeroizing::new([0; 32]);
        half.copy_from_slice(&hash[..32]);
        hash.as_mut_slice().zeroize();
        NodeIdentity {
            seed: Zeroizing::new(*seed),
            signing: SigningKey::from(*seed),
            exchange: StaticSecret::from(*half),
        }
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

    /// The secret shared with the holder of `peer`'s key.
    pub(crate) fn shared_secret(&self, peer: &NodeKey) -> Result<Zeroizing<[u8; 32]>, PeersError> {
        let shared = self.exchange.diffie_hellman(&exchange_key(peer)?);
        if !shared.was_contributory() {
            return Err(bad_key(peer, "the shared secret is the identity"));
        }
        Ok(Zeroizing::new(shared.to_bytes()))
    }
}

fn bad_key(key: &NodeKey, what: &'static str) -> PeersError {
    PeersError::BadKey { key: hex::encode(key.0), what }
}

/// The X25519 form of a node key. A point of small order is refused: with it anyone knows the shared secret.
fn exchange_key(key: &NodeKey) -> Result<PublicKey, PeersError> {
    let point = CompressedEdwardsY(key.0)
        .decompress()
        .ok_or_else(|| bad_key(key, "it is not a point of the curve"))?;
    if point.is_small_order() {
        return Err(bad_key(key, "it is a point of small order"));
    }
    Ok(PublicKey::from(point.to_montgomery().to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn bytes(text: &str) -> [u8; 32] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_conversion_is_libsodiums() {
        // The vector of libsodium's test/default/ed25519_convert.c.
        let seed = bytes("421151a459faeade3d247115f94aedae42318124095afabe4d1451a559faedee");
        let identity = NodeIdentity::from_seed(&seed);
        let public = PublicKey::from(&identity.exchange);
        let want = bytes("f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50");
        assert_eq!(public.to_bytes(), want);
        assert_eq!(exchange_key(&identity.node_key()).unwrap().to_bytes(), want);
    }

    #[test]
    fn both_sides_share_one_secret() {
        let (a, b) = (NodeIdentity::from_seed(&[1; 32]), NodeIdentity::from_seed(&[2; 32]));
        let ab = a.shared_secret(&b.node_key()).unwrap();
        assert_eq!(*ab, *b.shared_secret(&a.node_key()).unwrap());
        assert_ne!(*ab, *a.shared_secret(&a.node_key()).unwrap());
    }

    #[test]
    fn points_of_small_order_and_no_points_are_refused() {
        let identity = NodeIdentity::from_seed(&[1; 32]);
        let small = curve25519_dalek::constants::EIGHT_TORSION;
        for point in small {
            let key = NodeKey(point.compress().to_bytes());
            let refusal = identity.shared_secret(&key).unwrap_err().to_string();
            assert!(refusal.contains("small order"), "{refusal}");
        }
        let not_a_point = NodeKey([2; 32]);
        assert!(CompressedEdwardsY(not_a_point.0).decompress().is_none());
        assert!(identity.shared_secret(&not_a_point).unwrap_err().to_string().contains("not a point"));
    }

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
