//! `/metrics`, `/health` and `/status` on a port of their own, so that a scrape works while the RPC port is saturated.
//!
//! HTTP/1.1 with one request a connection: enough for Prometheus, load balancers and `curl`, and small enough to
//! bound in every direction. A request's head, its time and the number of connections have limits; a body is
//! never read into memory.

mod request;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use roko_wire::{Height, nano::ClockState};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{ServiceError, api::NodeApi, json, metrics};
use request::Request;

/// Where the page is served and what a client may ask of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Most open connections; more are answered 503.
    pub connections_max: u32,
    /// A request must arrive, and its answer be read, within this time each, milliseconds.
    pub request_ms_max: u64,
    /// `/health` fails when the last final block is older than this, milliseconds. An idle chain makes an empty
    /// block every second by default.
    pub final_age_ms_max: u64,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9615).into(),
            connections_max: 16,
            request_ms_max: 5_000,
            final_age_ms_max: 30_000,
        }
    }
}

/// One node's part of the answer of `/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The node's name, as in the metrics.
    pub node: String,
    /// True when `problems` is empty.
    pub healthy: bool,
    /// Height of the highest final block.
    #[serde(with = "json::decimal")]
    pub height: roko_wire::Height,
    /// Age of that block, nanoseconds.
    #[serde(with = "json::decimal")]
    pub final_age_ns: u64,
    /// Health of the clock.
    pub clock: ClockState,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

impl Health {
    /// Asks a node.
    #[must_use]
    pub fn of(node: &dyn NodeApi, final_age_ms_max: u64) -> Health {
        let time = node.consensus_time();
        let final_age_ns = time.now.nanos_since(time.last_block_time);
        let mut problems = Vec::new();
        if matches!(time.state, ClockState::Initializing | ClockState::Degraded) {
            let bound_ns = time.error_bound_ns;
            problems.push(format!("the clock is {:?} (bound {bound_ns} ns): check its source", time.state));
        }
        if final_age_ns / 1_000_000 > final_age_ms_max {
            problems.push(format!(
                "no final block for {} ms, the limit is {final_age_ms_max} ms: check peers and participation",
                final_age_ns / 1_000_000
            ));
        }
        let (height, clock) = (time.height, time.state);
        Health {
            node: node.metrics().node,
            healthy: problems.is_empty(),
            height,
            final_age_ns,
            clock,
            problems,
        }
    }
}

/// A running metrics server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Binds and serves all nodes of the process on the current tokio runtime.
    pub async fn start(
        config: &MetricsConfig,
        nodes: Vec<Arc<dyn NodeApi>>,
    ) -> Result<MetricsServer, ServiceError> {
        let cannot_listen =
            |source| ServiceError::Listen { service: "metrics", address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared { config: config.clone(), nodes });
        Ok(MetricsServer { address, stop, task: tokio::spawn(accept(listener, shared, stopped)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, cuts every connection and waits until they are gone.
    pub async fn stop(self) {
        // Both fail only when the task has ended already, which is what is wanted here.
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// What every connection needs.
struct Shared {
    config: MetricsConfig,
    nodes: Vec<Arc<dyn NodeApi>>,
}

/// Accepts until told to stop, or until the [`MetricsServer`] is dropped. Dropping the set cuts what is open.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(shared.config.connections_max as usize));
    // As many again may be told that there are too many; past that, connections are closed without a word.
    let refusals = Arc::new(Semaphore::new(shared.config.connections_max as usize));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let shared = shared.clone();
                if let Ok(permit) = permits.clone().try_acquire_owned() {
                    connections.spawn(async move {
                        let _permit = permit;
                        serve(stream, &shared).await;
                    });
                } else if let Ok(permit) = refusals.clone().try_acquire_owned() {
                    connections.spawn(async move {
                        let _permit = permit;
                        refuse(stream, &shared).await;
                    });
                }
            }
            // The host is out of descriptors or memory: a pause instead of a busy loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Answers 503 without reading the request, and closes.
async fn refuse(mut stream: TcpStream, shared: &Shared) {
    let answer = Answer::text(503, "Service Unavailable", "too many connections: try again in a moment\n");
    send(&mut stream, &answer.head_and_body(true), shared).await;
}

/// Reads one request, answers it, and closes.
async fn serve(mut stream: TcpStream, shared: &Shared) {
    let limit = Duration::from_millis(shared.config.request_ms_max);
    let (answer, with_body) = match timeout(limit, request::read(&mut stream)).await {
        Ok(Ok(request)) => (answer(&request, shared), request.with_body),
        Ok(Err(Some(error))) => (Answer::text(error.status(), error.phrase(), &format!("{error}\n")), true),
        // The client closed before it had sent a request.
        Ok(Err(None)) => return,
        Err(_) => (Answer::text(408, "Request Timeout", "the request did not arrive in time\n"), true),
    };
    send(&mut stream, &answer.head_and_body(with_body), shared).await;
}

/// Writes an answer and closes, each within the time limit. A client that does not take it is cut off.
async fn send(stream: &mut TcpStream, text: &str, shared: &Shared) {
    let limit = Duration::from_millis(shared.config.request_ms_max);
    if let Ok(Ok(())) = timeout(limit, stream.write_all(text.as_bytes())).await {
        // The answer is out; a client that keeps its side open past the limit is reset.
        let _ = timeout(limit, close(stream)).await;
    }
}

/// Closes so that the answer arrives: closing a socket with unread bytes resets it, and the reset may overtake the
/// answer. What comes after a request's head is read and thrown away, up to a limit.
async fn close(stream: &mut TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut discarded = [0; 1024];
    for _ in 0..64 {
        match stream.read(&mut discarded).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The pages.
fn answer(request: &Request, shared: &Shared) -> Answer {
    match request.path.as_str() {
        "/metrics" => {
            let snapshots: Vec<_> = shared.nodes.iter().map(|node| node.metrics()).collect();
            Answer {
                status: 200,
                phrase: "OK",
                content_type: metrics::CONTENT_TYPE,
                body: metrics::render(&snapshots),
            }
        }
        "/health" => {
            let limit = shared.config.final_age_ms_max;
            let nodes: Vec<_> = shared.nodes.iter().map(|node| Health::of(node.as_ref(), limit)).collect();
            let healthy = !nodes.is_empty() && nodes.iter().all(|health| health.healthy);
            let body = serde_json::json!({ "healthy": healthy, "nodes": nodes }).to_string();
            let (status, phrase) = if healthy { (200, "OK") } else { (503, "Service Unavailable") };
            Answer { status, phrase, content_type: "application/json", body }
        }
        "/status" => {
            let blocks_from = request.number("blocks_from").unwrap_or(u64::MAX);
            let audit = request.number("audit") == Some(1);
            let nodes: Vec<String> =
                shared.nodes.iter().filter_map(|node| node.status(Height(blocks_from), audit)).collect();
            let body = format!("[{}]", nodes.join(","));
            Answer { status: 200, phrase: "OK", content_type: "application/json", body }
        }
        _ => Answer::text(404, "Not Found", "there is /metrics, /health and /status here\n"),
    }
}

/// An answer before it is written.
struct Answer {
    status: u16,
    phrase: &'static str,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: u16, phrase: &'static str, body: &str) -> Answer {
        Answer { status, phrase, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }

    /// The bytes on the connection; HEAD has the length of the body and not the body.
    fn head_and_body(&self, with_body: bool) -> String {
        let allow = if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n{allow}\r\n{}",
            self.status,
            self.phrase,
            self.content_type,
            self.body.len(),
            if with_body { self.body.as_str() } else { "" },
        )
    }
}
