//! A chain of real processes on the loopback interface, without privileges: a full node that joins late gets every block
//! from its validators and follows; a validator whose store was damaged is repaired and comes back; both begin again from a
//! snapshot when their folders were emptied.

mod common;

use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use roko_consensus::SecretKey;
use roko_node::accounts::{DevnetGenesis, devnet_genesis, save_bls};
use roko_peers::NodeIdentity;
use roko_services::api::{BlockInfo, BlockSelector};
use roko_services::rpc::TemporalRpcClient;
use roko_wire::genesis::{Endpoint, Preset};
use roko_wire::limits::SNAPSHOT_BLOCKS;
use roko_wire::{ChainId, Height, NanoMoment};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The full node's index on the wire.
const FULL: u16 = 0x8000;

/// Addresses of the loopback network that this test process has for itself.
fn ip(index: u16) -> Ipv4Addr {
    let process = (std::process::id() % 20_000) as u16;
    let [high, low] = process.to_be_bytes();
    Ipv4Addr::new(127, 64 + high, low, index as u8 + 1)
}

struct Node {
    child: Child,
    config: PathBuf,
    data_dir: PathBuf,
    ip: Ipv4Addr,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(config: &Path) -> Child {
    run_with(config, &[])
}

fn run_with(config: &Path, more: &[&str]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(config.with_file_name("node.log"));
    let mut command = common::roko();
    command.arg("run").arg("--config").arg(config).args(more).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(log.expect("a log")).spawn().expect("the program was built for this test")
}

fn client() -> HttpClientBuilder {
    HttpClientBuilder::default().request_timeout(common::PATIENCE)
}

impl Node {
    /// Writes a node's folder and starts it. A full node has no voting key.
    fn start(
        dir: &Path,
        index: u16,
        identity: &NodeIdentity,
        bls: Option<&SecretKey>,
        full: &NodeIdentity,
    ) -> Node {
        let (ip, data_dir) = (ip(index), dir.join(format!("node-{index}")));
        std::fs::create_dir_all(&data_dir).expect("a folder");
        identity.save(&data_dir.join("node.key")).expect("a key file");
        let (mut text, kind) = (String::new(), if bls.is_some() { "validator" } else { "full" });
        let _ = write!(
            text,
            "[node]\nname = \"node-{index}\"\nkind = \"{kind}\"\ndata_dir = \".\"\ngenesis = \"../genesis.json\"\n\
             node_key = \"node.key\"\n"
        );
        if let Some(bls) = bls {
            save_bls(bls, &data_dir.join("bls.key")).expect("a key file");
            text.push_str("bls_key = \"bls.key\"\n");
        }
        let port = if bls.is_some() { "[port]\nkind = \"io_uring\"\n" } else { "" };
        let key = hex::encode(full.node_key().0);
        let _ = write!(
            text,
            "{port}[network]\nip = \"{ip}\"\n[handshake]\nlisten = \"{ip}:7701\"\n\
             [rpc]\nlisten = \"{ip}:9944\"\n[metrics]\nlisten = \"{ip}:9615\"\n[storage]\nsegment_mb = 8\n\
             [mempool]\ntransactions_max = 1024\n[[client]]\nindex = {FULL}\nnode_key = \"{key}\"\nip = \"{}\"\n\
             port = 7700\n",
            self::ip(9)
        );
        let config = data_dir.join("node.toml");
        std::fs::write(&config, text).expect("a configuration");
        Node { child: run(&config), config, data_dir, ip }
    }

    fn client(&self) -> HttpClient {
        client().build(format!("http://{}:9944", self.ip)).expect("a URL")
    }

    async fn height(&self) -> u64 {
        let block: Result<Option<BlockInfo>, _> = self.client().get_block(BlockSelector::Final).await;
        block.ok().flatten().map_or(0, |block| block.height.0)
    }

    /// Kills it, and waits until its port is free: the kernel lets go of a socket under io_uring a moment after the process.
    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("ours");
        let began = std::time::Instant::now();
        while let Err(error) = std::net::UdpSocket::bind((self.ip, 7_700)) {
            assert!(began.elapsed() < common::PATIENCE, "{}: {error}", self.ip);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, takes everything out of its folder but its keys and its configuration, and starts it from a snapshot.
    fn begin_again(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(&self.data_dir).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(".key") && !name.ends_with(".toml") && entry.path().is_file() {
                std::fs::remove_file(entry.path()).expect("ours");
            }
        }
        self.child = run_with(&self.config, &["--start", "snapshot"]);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir.join("node.log")).unwrap_or_default()
    }

    /// Until it votes: it abstains until the chain is past the moment at which its votes were lost.
    async fn until_it_votes(&self) {
        for _ in 0..common::PATIENCE.as_millis() / 100 {
            if !self.data_dir.join("abstain-until").exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{} abstains for ever, height {}:\n{}", self.ip, self.height().await, self.log());
    }

    async fn until_height(&mut self, height: u64) {
        let began = std::time::Instant::now();
        while self.height().await < height {
            let log = || std::fs::read_to_string(self.config.with_file_name("node.log")).unwrap_or_default();
            assert!(began.elapsed() < common::PATIENCE, "{} stands below {height}:\n{}", self.ip, log());
            assert!(self.child.try_wait().expect("ours").is_none(), "{} has ended:\n{}", self.ip, log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn block(&self, height: u64) -> BlockInfo {
        let block: Option<BlockInfo> =
            self.client().get_block(BlockSelector::Height(Height(height))).await.expect("it answers");
        block.expect("a block below the final one")
    }
}

fn genesis(dir: &Path) -> DevnetGenesis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let mut made =
        devnet_genesis(4, 4, Preset::Balanced, ChainId(77), b"full", NanoMoment(now)).expect("a genesis");
    for (index, validator) in made.genesis.validators.iter_mut().enumerate() {
        validator.endpoint = Endpoint { ip: ip(index as u16).into(), port: 7_700 };
    }
    made.genesis.limits.min_block_interval_ms = 10;
    made.genesis.limits.empty_block_interval_ms = 10;
    std::fs::write(dir.join("genesis.json"), made.genesis.to_json()).expect("a genesis file");
    made
}

fn repair(node: &Node, more: &[&str]) -> String {
    let out = common::roko()
        .args(["repair", "--config"])
        .arg(&node.config)
        .args(more)
        .output()
        .expect("it was built");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    said
}

/// A validator that cannot know what it has voted for does not start, until a repair has it wait.
async fn loses_its_votes(node: &mut Node) {
    node.kill();
    std::fs::remove_file(node.data_dir.join("votes")).expect("it has a vote log");
    node.child = run(&node.config);
    assert!(!node.child.wait().expect("ours").success(), "it starts without its votes");
    assert!(node.log().contains("there is no vote log, but"), "{}", node.log());
    assert!(repair(node, &["--dry-run"]).starts_with("damaged: there is no vote log"));
    assert!(repair(node, &[]).contains("a new one begins"));
    assert!(repair(node, &[]).starts_with("nothing to repair"));
    node.child = run(&node.config);
    node.until_it_votes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_follows_and_a_damaged_validator_comes_back_and_both_begin_from_a_snapshot() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let made = genesis(dir.path());
    let full = NodeIdentity::from_seed(&[7; 32]);
    let keys = made.node_identities.iter().zip(&made.bls_keys);
    let mut nodes: Vec<Node> = (0..)
        .zip(keys)
        .map(|(index, (identity, bls))| Node::start(dir.path(), index, identity, Some(bls), &full))
        .collect();
    nodes[0].until_height(100).await;
    let mut follower = Node::start(dir.path(), 9, &full, None, &full);
    follower.until_height(100).await;
    for height in [1, 50, 100] {
        assert_eq!(follower.block(height).await, nodes[1].block(height).await, "height {height}");
    }
    let further = nodes[0].height().await + 20;
    follower.until_height(further).await;
    let refused = follower.client().send_transaction("0x00".into()).await.expect_err("it has no mempool");
    assert!(refused.to_string().contains("full node"), "{refused}");

    // One byte of a block that everyone agreed on, somewhere in the middle.
    nodes[3].kill();
    let segment = nodes[3].data_dir.join("segment-00000000");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("it holds blocks");
    bytes[end / 2 / 512 * 512 + 40] ^= 1;
    std::fs::write(&segment, bytes).expect("damaged");
    nodes[3].child = run(&nodes[3].config);
    assert!(!nodes[3].child.wait().expect("ours").success(), "it starts from a damaged store");
    let log = std::fs::read_to_string(nodes[3].data_dir.join("node.log")).expect("a log");
    assert!(log.contains("segment-00000000, offset") && log.contains("roko repair"), "{log}");
    assert!(repair(&nodes[3], &["--dry-run"]).starts_with("damaged: segment-00000000"));
    assert!(repair(&nodes[3], &[]).contains("kept "));
    assert!(repair(&nodes[3], &[]).starts_with("nothing to repair"));
    assert!(nodes[3].data_dir.join("damaged/segment-00000000").exists());
    let target = nodes[0].height().await;
    nodes[3].child = run(&nodes[3].config);
    nodes[3].until_height(target).await;
    assert_eq!(nodes[3].block(target / 2).await, nodes[0].block(target / 2).await);
    // It votes again once the chain is past the moment of the repair.
    nodes[3].until_it_votes().await;
    loses_its_votes(&mut nodes[3]).await;

    // The state after a block is kept for new nodes now.
    let snapshot = SNAPSHOT_BLOCKS as u64;
    nodes[0].until_height(snapshot + 40).await;
    follower.begin_again();
    follower.until_height(snapshot + 40).await;
    assert!(follower.log().contains("begins from the state after block"), "{}", follower.log());
    let height = snapshot + 40;
    assert_eq!(follower.block(height).await, nodes[1].block(height).await);
    let early: Result<Option<BlockInfo>, _> =
        follower.client().get_block(BlockSelector::Height(Height(7))).await;
    let early = early.expect_err("it has no such block").to_string();
    assert!(
        early.contains("block 7 is before this node's snapshot: the first block that it has is "),
        "{early}"
    );
    // A validator begins from one too, restarts on what it has then, and votes when it may.
    nodes[3].begin_again();
    let target = nodes[0].height().await;
    nodes[3].until_height(target).await;
    assert!(nodes[3].log().contains("begins from the state after block"), "{}", nodes[3].log());
    nodes[3].kill();
    nodes[3].child = run(&nodes[3].config);
    nodes[3].until_it_votes().await;
    let target = nodes[0].height().await + 5;
    nodes[3].until_height(target).await;
    assert_eq!(nodes[3].block(target).await, nodes[2].block(target).await);
}
