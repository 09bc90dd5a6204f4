//! One validator's process.

use crate::devnet::DevnetError;
use roko_os::netns::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines of its log that are shown when it ends by itself.
const LOG_LINES: usize = 8;

/// A `roko run` in a namespace. Dropping it does not end it: see [`Node::wait_or_kill`].
pub struct Node {
    /// Its place in the validator set.
    pub index: usize,
    /// Its address.
    pub ip: IpAddr,
    /// What it says.
    pub log: PathBuf,
    config: PathBuf,
    namespace: String,
    child: Mutex<Child>,
    /// It was killed on purpose and is not started again yet.
    down: AtomicBool,
}

impl Node {
    /// Starts this program as the node of `config` in `namespace`. It ends when this process does, however that ends.
    ///
    /// # Errors
    /// When the log cannot be made or the program cannot be started.
    pub fn spawn(
        index: usize,
        config: &Path,
        namespace: &Namespace,
        ip: IpAddr,
    ) -> Result<Node, DevnetError> {
        let (log, namespace) = (config.with_file_name("node.log"), namespace.name().to_owned());
        let child = Mutex::new(start(config, &log, &namespace)?);
        Ok(Node { index, ip, log, config: config.to_owned(), namespace, child, down: AtomicBool::new(false) })
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&self) {
        self.down.store(true, Ordering::Relaxed);
        let mut child = self.child();
        // One that has ended by itself is shown when it is started again.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts it again on the same data.
    ///
    /// # Errors
    /// As [`Node::spawn`].
    pub fn start_again(&self) -> Result<(), DevnetError> {
        let mut child = self.child();
        *child = start(&self.config, &self.log, &self.namespace)?;
        self.down.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Its process' number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// How it ended, in words with the end of its log; `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        if self.down.load(Ordering::Relaxed) {
            return None;
        }
        let status = self.child().try_wait().ok()??;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        Some(format!("validator {} has ended ({status}):\n  {last}", self.index))
    }

    /// Asks it to end.
    pub fn ask_to_end(&self) {
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw)
        {
            // It runs, or is not yet waited for: the number is its own.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it has ended, and kills it when it has not by `until`.
    pub fn wait_or_kill(&self, until: Instant) {
        let mut child = self.child();
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Starts this program in a namespace; what it says goes to the end of `log`.
fn start(config: &Path, log: &Path, namespace: &str) -> Result<Child, DevnetError> {
    let said = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    let child = Command::new("ip")
        .args(["netns", "exec", namespace])
        .arg(std::env::current_exe()?)
        .args(["run", "--parent", &std::process::id().to_string(), "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        // Ctrl-C reaches this process alone, which ends the nodes in its own time.
        .process_group(0)
        .spawn()?;
    Ok(child)
}
