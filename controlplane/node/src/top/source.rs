//! A process whose nodes are watched: its metrics address, and what it answers.

use crate::observe::ask::{get, status_path};
use crate::observe::status::NodeStatus;
use std::net::{SocketAddr, ToSocketAddrs};

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// No address.
    #[error("--metrics {text}: {why}; give an address and a port, for instance 127.0.0.1:9615")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers.
    #[error(
        "no answer from http://{address}/status: {source}; start a node there (`roko devnet`, `roko run`), or give \
         --metrics the address that a running one has printed after \"metrics on\""
    )]
    NoAnswer {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody answers who is no node.
    #[error(
        "http://{address}/status is no node's status: {source}; give --metrics the address of a node's metrics page \
         (not of its JSON-RPC), and use a `roko` that is no older than the node"
    )]
    NoStatus {
        /// Where.
        address: SocketAddr,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// No node of that name.
    #[error("no node is called \"{name}\"; --node takes one of: {known}")]
    NoNode {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
}

/// One process that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    address: SocketAddr,
}

/// What a process said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its metrics address.
    pub address: SocketAddr,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

impl Source {
    /// The process whose metrics are at `text`, which is an address or a name with a port; `http://` may stand before it.
    ///
    /// # Errors
    /// When it is none, or the name has no address.
    pub fn resolve(text: &str) -> Result<Source, TopError> {
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let bare = bare.trim_end_matches("/metrics").trim_end_matches("/status");
        let wrong = |why: String| TopError::Address { text: text.to_owned(), why };
        let mut found = bare.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
        let address = found.next().ok_or_else(|| wrong("the name has no address".into()))?;
        Ok(Source { address })
    }

    /// What the process says, as it says it: a JSON array with an object a node.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn raw(&self) -> Result<String, TopError> {
        // Ids of blocks are not shown, so none from this height on are asked for.
        let path = status_path(u64::MAX, false);
        get(self.address, &path).map_err(|source| TopError::NoAnswer { address: self.address, source })
    }

    /// What the process says.
    ///
    /// # Errors
    /// When it does not answer, or what it answers is no status.
    pub fn ask(&self) -> Result<Answer, TopError> {
        let address = self.address;
        let nodes =
            serde_json::from_str(&self.raw()?).map_err(|source| TopError::NoStatus { address, source })?;
        Ok(Answer { address, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_as_people_write_it() {
        let plain = Source::resolve("127.0.0.1:9615").expect("an address");
        for text in ["http://127.0.0.1:9615", "http://127.0.0.1:9615/metrics", "127.0.0.1:9615/"] {
            assert_eq!(Source::resolve(text).expect(text), plain);
        }
        for text in ["127.0.0.1", "", "nowhere"] {
            let error = Source::resolve(text).expect_err("no port").to_string();
            assert!(error.contains("--metrics") && error.contains("127.0.0.1:9615"), "{error}");
        }
    }
}
