//! Collects what the processes tell of themselves: `/status` of each, a few times a second, by a thread in the hub.

use super::files::{METRICS_PORT, RPC_PORT};
use super::wire::Wires;
use crate::devnet::Finals;
use crate::observe::ask::{get, status_path};
use crate::observe::status::NodeStatus;
use jsonrpsee::http_client::HttpClientBuilder;
use roko_services::rpc::TemporalRpcClient;
use roko_wire::Address;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the nodes are asked. Each answer costs a node about a millisecond.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often before all have answered and the first block is final.
const INTERVAL_AT_START: Duration = Duration::from_millis(25);

/// What is known of the nodes.
struct Known {
    latest: Vec<Option<NodeStatus>>,
    /// The next height of which each node's block is not known.
    next: Vec<u64>,
    finals: Finals,
}

/// Asks the nodes until it is stopped.
pub struct Watcher {
    known: Arc<Mutex<Known>>,
    wires: Arc<Wires>,
    ips: Vec<IpAddr>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts asking the nodes at these addresses.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(wires: Arc<Wires>, ips: Vec<IpAddr>) -> std::io::Result<Watcher> {
        let known =
            Known { latest: vec![None; ips.len()], next: vec![0; ips.len()], finals: Finals::default() };
        let (known, stop) = (Arc::new(Mutex::new(known)), Arc::new(AtomicBool::new(false)));
        let (shared, ended, inside, all) =
            (Arc::clone(&known), Arc::clone(&stop), Arc::clone(&wires), ips.clone());
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || {
            if inside.hub().enter().is_err() {
                return;
            }
            while !ended.load(Ordering::Relaxed) {
                ask_all(&shared, &all, false);
                let started = lock(&shared)
                    .latest
                    .iter()
                    .all(|node| node.as_ref().is_some_and(|node| node.blocks_final > 0));
                std::thread::sleep(if started { INTERVAL } else { INTERVAL_AT_START });
            }
        })?;
        Ok(Watcher { known, wires, ips, stop, thread: Some(thread) })
    }

    /// Whether every node has answered once.
    #[must_use]
    pub fn heard_all(&self) -> bool {
        lock(&self.known).latest.iter().all(Option::is_some)
    }

    /// What each node said last, in index order; empty until all have.
    #[must_use]
    pub fn latest(&self) -> Vec<NodeStatus> {
        let all: Option<Vec<NodeStatus>> = lock(&self.known).latest.iter().cloned().collect();
        all.unwrap_or_default()
    }

    /// Asks each node now; one that does not answer is shown as it was before.
    #[must_use]
    pub fn ask_now(&self, audit: bool) -> Vec<NodeStatus> {
        // Without the namespace nobody answers, and what was known stays.
        let _ = self.wires.hub().within(|| ask_all(&self.known, &self.ips, audit));
        self.latest()
    }

    /// Heights at which two nodes' final blocks differ.
    #[must_use]
    pub fn forks(&self) -> u64 {
        lock(&self.known).finals.forks
    }

    /// Asks no more.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask_all(known: &Mutex<Known>, ips: &[IpAddr], audit: bool) {
    for (index, ip) in ips.iter().enumerate() {
        let from = lock(known).next[index];
        let target = status_path(from, audit);
        let Ok(body) = get(SocketAddr::new(*ip, METRICS_PORT), &target) else { continue };
        let Ok([mut status]) = serde_json::from_str::<[NodeStatus; 1]>(&body) else { continue };
        let mut known = lock(known);
        for (height, id) in (status.final_ids_from..).zip(std::mem::take(&mut status.final_ids)) {
            known.finals.add(height, id);
            known.next[index] = known.next[index].max(height + 1);
        }
        known.latest[index] = Some(status);
    }
}

/// The height that a node has made final and durable; asked from where it can be reached.
pub(super) fn height_of(ip: IpAddr) -> Option<u64> {
    // A block above every height: none is listed.
    let body = get(SocketAddr::new(ip, METRICS_PORT), &status_path(u64::MAX, false)).ok()?;
    let [status] = serde_json::from_str::<[NodeStatus; 1]>(&body).ok()?;
    Some(status.durable_height)
}

/// The next nonce of each account, as the node at `ip` has it.
pub(super) fn nonces(wires: &Wires, ip: IpAddr, accounts: &[Address]) -> Result<Vec<u64>, String> {
    let ask = || -> Result<Vec<u64>, String> {
        let say = |error: &dyn std::fmt::Display| format!("the accounts' nonces: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| say(&error))?.block_on(async {
            let url = format!("http://{}", SocketAddr::new(ip, RPC_PORT));
            let client = HttpClientBuilder::default().build(url).map_err(|error| say(&error))?;
            let mut nonces = Vec::with_capacity(accounts.len());
            for account in accounts {
                let found = client.get_balance(*account).await.map_err(|error| say(&error))?;
                nonces.push(found.nonce);
            }
            Ok(nonces)
        })
    };
    wires.hub().within(ask).map_err(|error| error.to_string())?
}
