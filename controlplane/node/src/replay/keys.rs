//! The keys of a capture's sessions: without them nobody can open its frames, so they lie beside it.
//!
//! Whoever has the file can read what was captured, and write frames in the sender's name while its session lasts.

use roko_peers::SessionId;
use roko_pipeline::peer::{Admission, KeyName, KeySource, PeerIndex, Role};
use roko_pipeline::session::AeadKeys;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// One direction of a client's session: what a captured frame to `receiver` is opened with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionKeys {
    /// The session's id.
    pub session: u64,
    /// The client's transmit core.
    pub core: u8,
    /// The key's generation within the session.
    pub phase: u8,
    /// The address that its frames go to.
    pub receiver: IpAddr,
    /// The key, 64 hexadecimal digits.
    #[serde(with = "hex::serde")]
    key: [u8; 32],
    /// The IV, 24 hexadecimal digits.
    #[serde(with = "hex::serde")]
    iv: [u8; 12],
}

impl SessionKeys {
    /// The keys by which a client seals frames to `receiver` under `name`.
    #[must_use]
    pub fn of_client(receiver: IpAddr, name: KeyName, keys: &AeadKeys) -> SessionKeys {
        let KeyName { session, core, phase } = name;
        SessionKeys { session, core, phase, receiver, key: keys.key, iv: keys.iv }
    }

    const fn name(&self) -> KeyName {
        KeyName { session: self.session, core: self.core, phase: self.phase }
    }
}

/// Where a capture's keys lie.
#[must_use]
pub fn keys_path(capture: &Path) -> PathBuf {
    let mut path = capture.as_os_str().to_owned();
    path.push(".keys");
    path.into()
}

/// Writes the keys of the capture `path`, readable by this user alone.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, keys: &[SessionKeys]) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(keys).map_err(std::io::Error::other)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(keys_path(path))?;
    file.write_all(text.as_bytes())
}

/// Reads the keys of the capture `path`.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read(path: &Path) -> std::io::Result<Vec<SessionKeys>> {
    serde_json::from_str(&std::fs::read_to_string(keys_path(path))?).map_err(std::io::Error::other)
}

/// Knows the keys of a capture's sessions, all of them clients'.
pub(super) struct CapturedSessions {
    by_name: HashMap<KeyName, (PeerIndex, AeadKeys)>,
}

impl CapturedSessions {
    /// The keys of frames that go to `receiver`; each gets a peer number, from `first` on.
    pub(super) fn new(keys: &[SessionKeys], receiver: IpAddr, first: u16) -> CapturedSessions {
        let own = keys.iter().filter(|keys| keys.receiver == receiver);
        let of = |(keys, peer): (&SessionKeys, u16)| {
            (keys.name(), (PeerIndex(peer), AeadKeys { key: keys.key, iv: keys.iv }))
        };
        CapturedSessions { by_name: own.zip(first..).map(of).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

impl KeySource for CapturedSessions {
    fn admit(&mut self, name: KeyName) -> Option<Admission> {
        let (peer, keys) = self.by_name.get(&name)?;
        let generation = SessionId(name.session).boot().milliseconds();
        Some(Admission { peer: *peer, role: Role::Client, generation, keys: keys.clone() })
    }

    fn next_retired(&mut self) -> Option<(PeerIndex, KeyName)> {
        None
    }
}
