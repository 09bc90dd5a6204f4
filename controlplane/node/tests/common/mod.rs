//! What the tests of the whole node share: the built program as a child process, and its services' addresses.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub(crate) mod net;
pub(crate) mod slow;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long the program may take to say something, on a machine that has other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The built program.
pub(crate) fn roko() -> Command {
    Command::new(env!("CARGO_BIN_EXE_roko"))
}

/// Writes a profile of two lanes into a folder: all that is in lanes but the second lane's signatures on one thread.
pub(crate) fn two_lanes(folder: &Path) -> PathBuf {
    let profile = roko_tuning::builtin("devnet-2core").expect("built in");
    let (verify, both) = ("verify = \"data\"", "verify = [\"data\", \"checks\"]");
    let edited = profile.replace("count = 1", "count = 2").replace(verify, both);
    let edited = edited.replace("[threads.data]", "[threads.checks]\n\n[threads.data]");
    let path = folder.join("two-lanes.toml");
    std::fs::write(&path, edited).expect("it is writable");
    path
}

/// A `roko devnet` that runs with services on free ports. Dropping it kills it.
pub(crate) struct DevnetProcess {
    child: Child,
    /// JSON-RPC of each validator, `http://address:port`.
    pub(crate) rpc: Vec<String>,
    /// Address of the metrics page, without a scheme.
    pub(crate) metrics: String,
    lines: Receiver<String>,
}

impl DevnetProcess {
    /// Starts it over in-process ports on `data_dir`, and waits until its services listen.
    pub(crate) fn start(data_dir: &Path, rate: u64, more: &[&str]) -> DevnetProcess {
        let mut child = roko()
            .args(["devnet", "--port", "in-process", "--rpc-port", "0", "--metrics-port", "0"])
            .arg("--rate")
            .arg(rate.to_string())
            .arg("--data-dir")
            .arg(data_dir)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built for this test");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // A child whose stderr is not read would stop when the pipe is full.
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut devnet = DevnetProcess { child, rpc: Vec::new(), metrics: String::new(), lines };
        let services = devnet.line("JSON-RPC on ");
        let (rpc, metrics) = services.split_once("; metrics on http://").expect("both services are named");
        devnet.rpc = rpc.split(", ").map(str::to_owned).collect();
        devnet.metrics = metrics.trim_end_matches("/metrics").to_owned();
        devnet
    }

    /// The rest of the next line that begins with `prefix`.
    pub(crate) fn line(&mut self, prefix: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
            seen.push(line);
        }
        panic!("the devnet never said \"{prefix}\" but:\n{}", seen.join("\n"));
    }

    /// Kills it with SIGKILL, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the devnet runs until it is killed");
        let status = self.child.wait().expect("a killed child ends");
        assert_eq!(status.code(), None, "the devnet ended by itself: {status}");
    }
}

impl Drop for DevnetProcess {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
