//! What each process reads: its configuration and its keys, in a folder of its own.

use super::super::{DevnetError, client_entry, client_seed};
use super::wire::WireKind;
use crate::accounts::{DevnetGenesis, save_bls};
use crate::chain::Chain;
use crate::config::example;
use crate::validator::NodeOptions;
use roko_consensus::SecretKey;
use roko_peers::membership::derived_mac;
use roko_peers::{ClientEntry, NodeIdentity};
use roko_wire::genesis::Endpoint;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// JSON-RPC's port of every node.
pub const RPC_PORT: u16 = 9_944;
/// The metrics' port of every node.
pub const METRICS_PORT: u16 = 9_615;
/// Frames of each node's pool, one less than a power of two times a thousand: what its stages and rings hold.
const FRAMES: u32 = 20 * 1024 - 1;
/// Frames that fit a MiB, one behind the other; 64 MiB are DPDK's own.
const MEMORY_MB: u32 = FRAMES.div_ceil(375) + 64;

/// Bits that the addresses of a devnet's nodes share: its bridges are one link.
const LINK_PREFIX: u8 = 16;

/// What is the same for all nodes.
pub struct Settings<'a> {
    /// What their ports are.
    pub wire: WireKind,
    /// Nodes ask for each other's Ethernet addresses.
    pub resolve: bool,
    /// A profile's name or file.
    pub profile: &'a str,
    /// Sizes.
    pub options: &'a NodeOptions,
    /// Declared bound of the host's clock, microseconds.
    pub clock_bound_us: u32,
    /// The load client.
    pub client: &'a ClientEntry,
}

/// A file of a node that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be written: {why}")]
pub struct FilesError {
    path: String,
    why: String,
}

/// Writes the folders of all validators of a devnet whose nodes are not processes, so that each has a configuration that
/// `roko replay` reads.
///
/// # Errors
/// Names the file that cannot be written, or says what is wrong with the genesis.
pub fn write_all(
    data_dir: &Path,
    devnet: &DevnetGenesis,
    options: &NodeOptions,
    clock_bound_us: u32,
) -> Result<(), DevnetError> {
    let chain = Chain::new(devnet.genesis.clone())?;
    let client = client_entry(&NodeIdentity::from_seed(&client_seed(&chain)), &chain);
    let (wire, profile) = (WireKind::AfPacket, "devnet-2core");
    let settings = Settings { wire, resolve: false, profile, options, clock_bound_us, client: &client };
    for (index, (identity, bls_key)) in devnet.node_identities.iter().zip(&devnet.bls_keys).enumerate() {
        let endpoint = &devnet.genesis.validators[index].endpoint;
        write(data_dir, index, endpoint, identity, bls_key, &settings)
            .map_err(|error| DevnetError::Network(error.to_string()))?;
    }
    Ok(())
}

/// Writes the folder of the node `index` in `data_dir` and returns its configuration file. Keys that are there are kept: they follow
/// from the chain's seed.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write(
    data_dir: &Path,
    index: usize,
    endpoint: &Endpoint,
    identity: &NodeIdentity,
    bls_key: &SecretKey,
    settings: &Settings<'_>,
) -> Result<PathBuf, FilesError> {
    let failed = |path: &Path, why: &dyn Display| FilesError {
        path: path.display().to_string(),
        why: why.to_string(),
    };
    let folder = data_dir.join(format!("validator-{index}"));
    std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
    let (node, bls) = (folder.join("node.key"), folder.join("bls.key"));
    if !node.exists() {
        identity.save(&node).map_err(|error| failed(&node, &error))?;
    }
    if !bls.exists() {
        save_bls(bls_key, &bls).map_err(|error| failed(&bls, &error))?;
    }
    let config = folder.join("node.toml");
    let mut text = example(&values(index, endpoint, settings)) + &client(settings.client);
    if settings.wire.device().is_none() {
        text =
            text.lines().filter(|line| !line.starts_with("device = ")).collect::<Vec<_>>().join("\n") + "\n";
    }
    std::fs::write(&config, text).map_err(|error| failed(&config, &error))?;
    Ok(config)
}

fn values(index: usize, endpoint: &Endpoint, settings: &Settings<'_>) -> Vec<(&'static str, String)> {
    let (options, ip) = (settings.options, endpoint.ip);
    let megabytes = |bytes: u64| (bytes >> 20).to_string();
    let port = match settings.wire.device() {
        Some(device) => ("port.device", format!("\"{device}\"")),
        None => ("port.kind", "\"io_uring\"".to_owned()),
    };
    let mut values = vec![
        port,
        ("node.name", format!("\"validator-{index}\"")),
        ("node.data_dir", "\".\"".to_owned()),
        ("node.genesis", "\"../genesis.json\"".to_owned()),
        ("node.bls_key", "\"bls.key\"".to_owned()),
        ("port.frames", FRAMES.to_string()),
        ("port.memory_mb", MEMORY_MB.to_string()),
        ("network.ip", format!("\"{ip}\"")),
        ("network.port", endpoint.port.to_string()),
        ("network.mac", format!("\"{}\"", derived_mac(&ip))),
        ("tuning.profile", toml::Value::from(settings.profile).to_string()),
        ("mempool.transactions_max", options.mempool_transactions_max.to_string()),
        ("mempool.sender_transactions_max", options.sender_transactions_max.to_string()),
        ("mempool.stamp_flush_us", options.stamp_flush_us.to_string()),
        ("storage.segment_mb", megabytes(options.segment_bytes)),
        ("storage.journal_mb", megabytes(options.journal_bytes)),
        ("clock.untraceable_bound_us", settings.clock_bound_us.to_string()),
        ("rpc.listen", format!("\"{ip}:{RPC_PORT}\"")),
        ("metrics.listen", format!("\"{ip}:{METRICS_PORT}\"")),
        ("filter.stranger_frames_per_second", options.stranger_frames_per_second.to_string()),
        ("filter.known_frames_per_second", options.known_frames_per_second.to_string()),
    ];
    if settings.resolve {
        values.push(("port.neighbours", "\"resolve\"".to_owned()));
        values.push(("port.prefix", LINK_PREFIX.to_string()));
    }
    values
}

fn client(entry: &ClientEntry) -> String {
    let (index, key, at) = (entry.index, hex::encode(entry.node_key.0), &entry.endpoint);
    format!(
        "\n# The devnet's load client.\n[[client]]\nindex = {index}\nnode_key = \"{key}\"\nip = \"{}\"\nport = {}\n",
        at.ip, at.port
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{DEVNET_CHAIN_ID, devnet_genesis};
    use crate::config::NodeConfig;
    use roko_wire::NanoMoment;
    use roko_wire::genesis::Preset;

    #[test]
    fn what_is_written_for_a_process_is_a_good_configuration() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let chain = devnet_genesis(4, 2, Preset::Balanced, DEVNET_CHAIN_ID, b"files", NanoMoment(1 << 60))
            .expect("a genesis");
        std::fs::write(folder.path().join("genesis.json"), chain.genesis.to_json()).expect("written");
        let client = ClientEntry {
            index: 0x8000,
            node_key: NodeIdentity::from_seed(&[9; 32]).node_key(),
            endpoint: Endpoint { ip: [10, 77, 1, 4].into(), port: 7_700 },
        };
        for wire in WireKind::ALL {
            let options = NodeOptions::default();
            let settings = Settings {
                wire,
                resolve: wire != WireKind::IoUring,
                profile: "devnet-2core",
                options: &options,
                clock_bound_us: 10_000,
                client: &client,
            };
            let (identity, bls) = (&chain.node_identities[2], &chain.bls_keys[2]);
            // Twice: a devnet that goes on writes its configuration again and keeps its keys.
            for _ in 0..2 {
                let path =
                    write(folder.path(), 2, &chain.genesis.validators[2].endpoint, identity, bls, &settings)
                        .expect("written");
                let config = NodeConfig::load(&path).unwrap_or_else(|problems| panic!("{problems:?}"));
                assert_eq!(config.client_entries(), [client]);
                assert_eq!(config.port.device.map(|device| device.as_str().to_owned()), wire.device());
            }
        }
    }
}
