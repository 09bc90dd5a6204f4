//! A node's configuration: `node.toml`.
//!
//! `table` is the one list of keys; structs, defaults, checks and the example file follow from it. Everything that is
//! wrong with a file is reported at once, and before any hardware is touched. `config.port.memory_mb` is the key
//! `port.memory_mb`.

mod check;
mod example;
mod reader;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use example::example;
pub use reader::ConfigProblem;
pub use table::{
    CatchupSection, Client, ClockSection, FilterSection, HandshakeSection, MempoolSection, MetricsSection,
    Neighbor, NetworkSection, NodeSection, PeerAddress, PortSection, RpcSection, SandboxSection,
    ScoreSection, StorageSection, TuningSection,
};
pub use value::{
    Neighbours, NodeKind, PciOrVirtual, PhcReference, PhcTimescale, PortKind, PortStamps, StartFrom,
    TimeSource,
};

use crate::handshake::HandshakeOptions;
use crate::slow_path::{Resolve, Route, SlowPathOptions};
use core::net::{IpAddr, SocketAddr};
use reader::Document;
use roko_peers::membership::derived_mac;
use roko_peers::{ClientEntry, HandshakeLimits, Membership, Peer, PhaseTimes, Role};
use roko_pipeline::peer::KeyLimits;
use roko_wire::genesis::Endpoint;
use roko_wire::net::Mac;
use std::path::{Path, PathBuf};

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `[node]`
    pub node: NodeSection,
    /// `[port]`
    pub port: PortSection,
    /// `[network]`
    pub network: NetworkSection,
    /// `[[neighbor]]`
    pub neighbors: Vec<Neighbor>,
    /// `[[client]]`
    pub clients: Vec<Client>,
    /// `[handshake]`
    pub handshake: HandshakeSection,
    /// `[[peer]]`
    pub peers: Vec<PeerAddress>,
    /// `[score]`
    pub score: ScoreSection,
    /// `[tuning]`
    pub tuning: TuningSection,
    /// `[catchup]`
    pub catchup: CatchupSection,
    /// `[mempool]`
    pub mempool: MempoolSection,
    /// `[storage]`
    pub storage: StorageSection,
    /// `[clock]`
    pub clock: ClockSection,
    /// `[sandbox]`
    pub sandbox: SandboxSection,
    /// `[rpc]`
    pub rpc: RpcSection,
    /// `[metrics]`
    pub metrics: MetricsSection,
    /// `[filter]`
    pub filter: FilterSection,
}

impl NodeConfig {
    /// Reads a file's text. Every problem is in the error; paths stay as they are written.
    pub fn parse(text: &str) -> Result<NodeConfig, Vec<ConfigProblem>> {
        let mut document = Document::new(text).map_err(|problem| vec![problem])?;
        let config = NodeConfig::read(&mut document);
        let mut problems = document.problems;
        if let Some(config) = &config {
            check::together(config, &mut problems);
        }
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }

    /// Reads a file and the files that it names, and checks that they fit together. Paths become relative to the
    /// file's folder. Nothing is created and no device is touched.
    pub fn load(path: &Path) -> Result<NodeConfig, Vec<ConfigProblem>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let why = format!("cannot be read ({error}): name a node.toml; `roko config example` prints one");
            vec![ConfigProblem::File { path: path.display().to_string(), why }]
        })?;
        let mut config = NodeConfig::parse(&text)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        let problems = check::files(&config);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    fn read(document: &mut Document) -> Option<NodeConfig> {
        // Every section is read before any is unwrapped, so that every problem is noted.
        let node = document.section("node", NodeSection::read);
        let port = document.section("port", PortSection::read);
        let network = document.section("network", NetworkSection::read);
        let neighbors = document.list("neighbor", Neighbor::read);
        let clients = document.list("client", Client::read);
        let handshake = document.section("handshake", HandshakeSection::read);
        let peers = document.list("peer", PeerAddress::read);
        let score = document.section("score", ScoreSection::read);
        let tuning = document.section("tuning", TuningSection::read);
        let catchup = document.section("catchup", CatchupSection::read);
        let mempool = document.section("mempool", MempoolSection::read);
        let storage = document.section("storage", StorageSection::read);
        let clock = document.section("clock", ClockSection::read);
        let rpc = document.section("rpc", RpcSection::read);
        let sandbox = document.section("sandbox", SandboxSection::read);
        let metrics = document.section("metrics", MetricsSection::read);
        let filter = document.section("filter", FilterSection::read);
        Some(NodeConfig {
            node: node?,
            port: port?,
            network: network?,
            neighbors,
            clients,
            handshake: handshake?,
            peers,
            score: score?,
            tuning: tuning?,
            catchup: catchup?,
            mempool: mempool?,
            storage: storage?,
            clock: clock?,
            rpc: rpc?,
            sandbox: sandbox?,
            metrics: metrics?,
            filter: filter?,
        })
    }

    fn resolve(&mut self, folder: &Path) {
        let node = &mut self.node;
        let paths: [Option<&mut PathBuf>; 4] = [
            Some(&mut node.data_dir),
            Some(&mut node.genesis),
            Some(&mut node.node_key),
            node.bls_key.as_mut(),
        ];
        paths.into_iter().flatten().for_each(|path| *path = folder.join(&*path));
        if roko_tuning::builtin(&self.tuning.profile).is_none() {
            self.tuning.profile = folder.join(&self.tuning.profile).display().to_string();
        }
    }

    /// The Ethernet address of a peer or of this node: the configured one, else the one made from its IP address.
    #[must_use]
    pub fn mac_of(&self, ip: &IpAddr) -> Mac {
        if let (true, Some(mac)) = (*ip == self.network.ip, self.network.mac) {
            return mac;
        }
        let neighbor = self.neighbors.iter().find(|neighbor| neighbor.ip == *ip);
        neighbor.map_or_else(|| derived_mac(ip), |neighbor| neighbor.mac)
    }

    /// What the node does for its port because no kernel does; `None` with a port that a kernel has.
    #[must_use]
    pub fn slow_path_options(&self) -> Option<SlowPathOptions> {
        let resolve = || Resolve {
            route: self.route(),
            fixed: self.neighbors.iter().map(|neighbor| (neighbor.ip, neighbor.mac)).collect(),
        };
        (self.port.kind == PortKind::Dpdk).then(|| SlowPathOptions {
            mac: self.mac_of(&self.network.ip),
            resolve: (self.port.neighbours == Neighbours::Resolve).then(resolve),
        })
    }

    /// The virtual LAN that the port is on.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        (self.port.vlan != 0).then_some(self.port.vlan)
    }

    /// What is on this node's link; everything, where no prefix is given.
    #[must_use]
    pub fn route(&self) -> Route {
        let port = &self.port;
        Route { own: self.network.ip, prefix: port.prefix.unwrap_or(0), gateway: port.gateway }
    }

    /// The clients as members of the network.
    #[must_use]
    pub fn client_entries(&self) -> Vec<ClientEntry> {
        let entry = |client: &Client| ClientEntry {
            index: client.index,
            node_key: client.node_key,
            endpoint: Endpoint { ip: client.ip, port: client.port },
        };
        self.clients.iter().map(entry).collect()
    }

    /// Where each member listens for handshakes, by slot: validators only.
    #[must_use]
    pub fn handshake_addresses(&self, members: &Membership) -> Vec<Option<SocketAddr>> {
        let address = |peer: &Peer| {
            let configured = self.peers.iter().find(|one| one.index == peer.index);
            let at = &peer.endpoint;
            let derived = at.port.checked_add(1).map(|port| SocketAddr::new(at.ip, port));
            match peer.role {
                Role::Validator(_) => configured.map(|one| one.handshake).or(derived),
                Role::Client => None,
            }
        };
        members.peers().iter().map(address).collect()
    }

    /// Settings of handshakes and key phases.
    #[must_use]
    pub fn handshake_options(&self) -> HandshakeOptions {
        let section = &self.handshake;
        let per_second = section.per_address_per_second;
        HandshakeOptions {
            limits: HandshakeLimits {
                half_open_max: section.half_open_max as usize,
                half_open_per_address_max: section.half_open_per_address_max as usize,
                per_address_per_second: per_second,
                per_address_burst: per_second.max(HandshakeLimits::default().per_address_burst),
                time_ms_max: section.time_ms_max.into(),
                ..HandshakeLimits::default()
            },
            times: PhaseTimes {
                rekey_ms: u64::from(section.rekey_s) * 1_000,
                grace_ms: section.grace_ms.into(),
                session_ms: u64::from(section.session_s) * 1_000,
            },
            key_limits: KeyLimits { frames: section.rekey_frames.into(), ..KeyLimits::default() },
            key_log: None,
        }
    }

    /// The text of the tuning profile.
    pub fn profile_text(&self) -> std::io::Result<String> {
        match roko_tuning::builtin(&self.tuning.profile) {
            Some(text) => Ok(text.to_owned()),
            None => std::fs::read_to_string(&self.tuning.profile),
        }
    }
}
