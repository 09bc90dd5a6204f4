//! Checks of what no single value shows: keys that must fit together, and the files that the configuration names.

use super::reader::{ConfigProblem, shown};
use super::{Neighbours, NodeConfig, NodeKind, PciOrVirtual, PortKind, PortSection, PortStamps, TimeSource};
use crate::accounts::load_bls;
use roko_peers::{Membership, NodeIdentity};
use roko_tuning::{BUILTIN, Profile};
use roko_wire::genesis::{Genesis, NodeKey};
use std::path::Path;

/// What a frame takes of DPDK's memory, bytes: two fifths more than the default's room of 2,048, headers of the pool included,
/// so that 375 fit a MiB.
const fn frame_memory_bytes(mtu: u16) -> u32 {
    2_796 + (mtu - 1_500) as u32
}

fn frames_max(port: &PortSection) -> u32 {
    let frames = (u64::from(port.memory_mb) << 20) / u64::from(frame_memory_bytes(port.mtu));
    u32::try_from(frames).unwrap_or(u32::MAX)
}

fn problem(key: impl Into<String>, value: impl Into<toml::Value>, why: impl Into<String>) -> ConfigProblem {
    ConfigProblem::Value { key: key.into(), value: shown(&value.into()), why: why.into() }
}

/// Keys that contradict each other.
pub(super) fn together(config: &NodeConfig, problems: &mut Vec<ConfigProblem>) {
    let node = &config.node;
    match (node.kind, &node.bls_key) {
        (NodeKind::Validator, None) => {
            problems.push(ConfigProblem::Missing { key: "node.bls_key".to_owned(), example: "\"bls.key\"" });
        }
        (NodeKind::Full, Some(path)) => problems.push(problem(
            "node.bls_key",
            path.display().to_string(),
            "a full node does not vote: take the key out, or set node.kind = \"validator\"",
        )),
        _ => {}
    }
    if node.kind == NodeKind::Validator {
        port(config, problems);
    }
    let mempool = &config.mempool;
    if u32::from(mempool.sender_transactions_max) > mempool.transactions_max {
        let most = mempool.sender_transactions_max;
        let why = format!(
            "one sender's limit is above mempool.transactions_max: lower it to {}",
            mempool.transactions_max
        );
        problems.push(problem("mempool.sender_transactions_max", i64::from(most), why));
    }
    listeners(config, problems);
    for (place, peer) in config.peers.iter().enumerate() {
        if config.peers[..place].iter().any(|before| before.index == peer.index) {
            let why = "the peer has an entry before: take one out";
            problems.push(problem(format!("peer[{place}].index"), i64::from(peer.index), why));
        }
    }
    for (index, neighbor) in config.neighbors.iter().enumerate() {
        if config.neighbors[..index].iter().any(|before| before.ip == neighbor.ip) {
            let why = "another [[neighbor]] has it: give each address one entry";
            problems.push(problem(format!("neighbor[{index}].ip"), neighbor.ip.to_string(), why));
        }
    }
}

/// A validator's port; a full node has none.
fn port(config: &NodeConfig, problems: &mut Vec<ConfigProblem>) {
    let port = &config.port;
    match (port.kind, &port.device) {
        (PortKind::Dpdk, None) => problems.push(ConfigProblem::Missing {
            key: "port.device".to_owned(),
            example: "\"net_af_packet0,iface=eth1\"",
        }),
        (PortKind::IoUring, Some(device)) => problems.push(problem(
            "port.device",
            device.as_str(),
            "io_uring uses the kernel's network and no device: take the key out, or set port.kind = \"dpdk\"",
        )),
        (PortKind::Dpdk, Some(PciOrVirtual::Pci(device))) if !port.hugepages => {
            let why = "a PCI device's DMA needs hugepages: set port.hugepages = true";
            problems.push(problem("port.device", device.as_str(), why));
        }
        _ => {}
    }
    if let Some(phc) = &port.phc {
        let why = match (port.kind, port.stamps) {
            (PortKind::IoUring, _) => {
                Some("io_uring's datagrams are stamped by the kernel's own clock: take the key out")
            }
            (_, PortStamps::Poll) => {
                Some("port.stamps = \"poll\" uses no clock of a card: take one of the two out")
            }
            (PortKind::Dpdk, PortStamps::Auto) => None,
        };
        problems.extend(why.map(|why| problem("port.phc", phc.display().to_string(), why)));
    }
    let own = [("port.vlan", port.vlan, 0), ("port.mtu", port.mtu, 1_500)];
    for (key, value, _) in
        own.iter().filter(|(_, value, not_set)| port.kind == PortKind::IoUring && value != not_set)
    {
        let why = "with io_uring the kernel's device decides: take the key out, or set port.kind = \"dpdk\"";
        problems.push(problem(*key, i64::from(*value), why));
    }
    link(config, problems);
    if port.kind == PortKind::Dpdk && port.frames > frames_max(port) {
        let most = frames_max(port);
        let why = format!(
            "port.memory_mb = {} holds about {most} frames: raise it to {}, or lower port.frames",
            port.memory_mb,
            (u64::from(port.frames) * u64::from(frame_memory_bytes(port.mtu))).div_ceil(1 << 20)
        );
        problems.push(problem("port.frames", i64::from(port.frames), why));
    }
}

/// What is on the link, and how next hops are found.
fn link(config: &NodeConfig, problems: &mut Vec<ConfigProblem>) {
    let (port, own) = (&config.port, config.network.ip);
    let resolve = port.neighbours == Neighbours::Resolve;
    if resolve && port.kind == PortKind::IoUring {
        let why = "with io_uring the kernel finds peers: take the key out";
        problems.push(problem("port.neighbours", "resolve", why));
        return;
    }
    if !resolve {
        return;
    }
    let bits = if own.is_ipv4() { 32 } else { 128 };
    match port.prefix {
        None => problems.push(ConfigProblem::Missing { key: "port.prefix".to_owned(), example: "24" }),
        Some(prefix) if prefix > bits => {
            let why = format!("network.ip = {own} has {bits} bits: set 0 to {bits}");
            problems.push(problem("port.prefix", i64::from(prefix), why));
        }
        Some(_) => {}
    }
    if let Some(gateway) = port.gateway {
        let why = if gateway.is_ipv4() != own.is_ipv4() {
            format!("is of another family than network.ip = {own}: name a router of the same")
        } else if gateway == own {
            "is this node's own address: name the router's".to_owned()
        } else if !config.route().on_link(&gateway) {
            "is not on the link that port.prefix says: correct one of the two".to_owned()
        } else {
            return;
        };
        problems.push(problem("port.gateway", gateway.to_string(), why));
    }
}

/// Every validator can be reached: it is on the link, or there is a gateway.
fn check_reach(config: &NodeConfig, genesis: &Genesis, problems: &mut Vec<ConfigProblem>) {
    if config.port.neighbours != Neighbours::Resolve || config.port.gateway.is_some() {
        return;
    }
    let route = config.route();
    let far = genesis.validators.iter().map(|validator| validator.endpoint.ip).find(|ip| !route.on_link(ip));
    if let (Some(far), Some(prefix)) = (far, config.port.prefix) {
        let why = format!("the validator at {far} is not on this link: name the router in port.gateway");
        problems.push(problem("port.prefix", i64::from(prefix), why));
    }
}

/// Sockets that the node listens on.
fn listeners(config: &NodeConfig, problems: &mut Vec<ConfigProblem>) {
    if config.rpc.listen == config.metrics.listen && config.rpc.listen.port() != 0 {
        let why = "rpc.listen is the same: give each its own port";
        problems.push(problem("metrics.listen", config.metrics.listen.to_string(), why));
    }
    let listens = [("rpc.listen", config.rpc.listen), ("metrics.listen", config.metrics.listen)];
    for (key, _) in
        listens.iter().filter(|(_, listen)| *listen == config.handshake.listen && listen.port() != 0)
    {
        let why = format!("{key} is the same: give each its own port");
        problems.push(problem("handshake.listen", config.handshake.listen.to_string(), why));
    }
    let (half_open, of_address) =
        (config.handshake.half_open_max, config.handshake.half_open_per_address_max);
    if of_address > half_open {
        let why = format!("one address' limit is above handshake.half_open_max: lower it to {half_open}");
        problems.push(problem("handshake.half_open_per_address_max", i64::from(of_address), why));
    }
}

/// The files that the configuration names: that they are there, can be read, and belong together.
pub(super) fn files(config: &NodeConfig) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    let (node, text) = (&config.node, |path: &Path| path.display().to_string());
    let genesis = read_genesis(&node.genesis, &mut problems);
    let node_key = NodeIdentity::load(&node.node_key).map(|identity| identity.node_key());
    let node_key = node_key.map_err(|error| {
        problems.push(problem("node.node_key", text(&node.node_key), error.to_string()));
    });
    let bls_key = node.bls_key.as_ref().map(|path| {
        load_bls(path).map(|key| key.public_key().to_bytes()).map_err(|error| {
            problems.push(problem("node.bls_key", text(path), error.to_string()));
        })
    });
    check_data_dir(&node.data_dir, &mut problems);
    check_clocks(config, &mut problems);
    check_profile(config, &mut problems);
    if let Some(genesis) = genesis {
        if let Err(error) = Membership::new(&genesis, &config.client_entries(), |at| config.mac_of(&at.ip)) {
            let why = format!("{error}: change it, or take the entry out");
            problems.push(problem("client", i64::try_from(config.clients.len()).unwrap_or(0), why));
        }
        for (place, peer) in config.peers.iter().enumerate() {
            let validators = genesis.validators.len();
            if usize::from(peer.index) >= validators {
                let why =
                    format!("genesis has {validators} validators, from 0: correct it, or take the entry out");
                problems.push(problem(format!("peer[{place}].index"), i64::from(peer.index), why));
            }
        }
        if node.kind == NodeKind::Validator {
            check_reach(config, &genesis, &mut problems);
        }
        if let (NodeKind::Validator, Ok(node_key)) = (node.kind, node_key) {
            check_validator(config, &genesis, &node_key, bls_key.and_then(Result::ok), &mut problems);
        }
    }
    problems
}

fn read_genesis(path: &Path, problems: &mut Vec<ConfigProblem>) -> Option<Genesis> {
    let mut note = |why: String| problems.push(problem("node.genesis", path.display().to_string(), why));
    let text = std::fs::read_to_string(path);
    let text = text
        .map_err(|error| note(format!("cannot be read ({error}): name the chain's genesis file")))
        .ok()?;
    Genesis::parse(&text)
        .map_err(|found| {
            found.iter().for_each(|found| note(format!("{found} (`roko genesis inspect` checks it)")))
        })
        .ok()
}

fn check_data_dir(path: &Path, problems: &mut Vec<ConfigProblem>) {
    if path.exists() && !path.is_dir() {
        let why = "is a file: name a folder, which is made when it is not there";
        problems.push(problem("node.data_dir", path.display().to_string(), why));
    }
}

/// The files of PTP clocks are there. Whether they are clocks is seen when they are opened.
fn check_clocks(config: &NodeConfig, problems: &mut Vec<ConfigProblem>) {
    let source = match &config.clock.source {
        TimeSource::Host => None,
        TimeSource::Phc(path) => Some(("clock.source", path, "or set clock.source = \"host\"")),
    };
    let port = config.port.phc.as_ref().map(|path| ("port.phc", path, "or take the key out"));
    for (key, path, or) in source.into_iter().chain(port).filter(|(_, path, _)| !path.exists()) {
        let why = format!("is not there: name a PTP clock of this host (`ls /dev/ptp*`), {or}");
        problems.push(problem(key, path.display().to_string(), why));
    }
}

fn check_profile(config: &NodeConfig, problems: &mut Vec<ConfigProblem>) {
    let profile = config.tuning.profile.as_str();
    let mut note = |why: String| problems.push(problem("tuning.profile", profile, why));
    match config.profile_text() {
        Err(error) => {
            let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
            note(format!("cannot be read ({error}): name a profile file, or one of {}", names.join(", ")));
        }
        Ok(text) => {
            if let Err(errors) = Profile::parse(&text) {
                errors.iter().for_each(|error| note(error.to_string()));
            }
        }
    }
}

/// A validator's keys and address are those that genesis lists.
fn check_validator(
    config: &NodeConfig,
    genesis: &Genesis,
    node_key: &NodeKey,
    bls_key: Option<[u8; 48]>,
    problems: &mut Vec<ConfigProblem>,
) {
    let node = &config.node;
    let Some(index) = genesis.index_of(node_key) else {
        let why = format!(
            "its public key {} is no validator's in genesis: use the key of a validator, or set node.kind = \"full\"",
            hex::encode(node_key.0)
        );
        problems.push(problem("node.node_key", node.node_key.display().to_string(), why));
        return;
    };
    let validator = &genesis.validators[index.as_usize()];
    if let (Some(bls_key), Some(path)) = (bls_key, &node.bls_key)
        && bls_key != validator.bls_key.0
    {
        let why =
            format!("is not the voting key of validators[{index}] in genesis: use that validator's file");
        problems.push(problem("node.bls_key", path.display().to_string(), why));
    }
    let (want, network) = (&validator.endpoint, &config.network);
    if network.ip != want.ip {
        let why = format!("genesis has {} for validators[{index}]: peers send there, so set that", want.ip);
        problems.push(problem("network.ip", network.ip.to_string(), why));
    }
    if network.port != want.port {
        let why = format!("genesis has {} for validators[{index}]: peers send there, so set that", want.port);
        problems.push(problem("network.port", i64::from(network.port), why));
    }
    let most = genesis.limits.clock_error_bound_us_max;
    if matches!(config.clock.source, TimeSource::Phc(_)) {
        let bound = config.clock.phc_bound_ns;
        if u64::from(bound) > u64::from(most) * 1_000 {
            let why = format!(
                "is above genesis' clock_error_bound_us_max of {most}: this validator would never propose; \
                 discipline the clock better and lower the bound"
            );
            problems.push(problem("clock.phc_bound_ns", i64::from(bound), why));
        }
        return;
    }
    let bound = config.clock.untraceable_bound_us;
    if bound > most {
        let why = format!(
            "is above genesis' clock_error_bound_us_max of {most}: this validator would never propose; \
             discipline the clock and lower the bound"
        );
        problems.push(problem("clock.untraceable_bound_us", i64::from(bound), why));
    }
}
