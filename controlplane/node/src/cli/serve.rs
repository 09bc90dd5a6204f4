//! JSON-RPC and metrics of the nodes of this process, and the runtime that they and Ctrl-C run on.

use super::CliError;
use roko_services::NodeApi;
use roko_services::http::{MetricsConfig, MetricsServer};
use roko_services::rpc::{RpcConfig, RpcServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Servers that run.
pub struct Services {
    rpc: Vec<RpcServer>,
    metrics: MetricsServer,
}

impl Services {
    /// Starts JSON-RPC for each node and one metrics page for all.
    pub async fn start(
        nodes: Vec<(RpcConfig, Arc<dyn NodeApi>)>,
        metrics: &MetricsConfig,
    ) -> Result<Services, CliError> {
        let mut rpc = Vec::new();
        let mut all = Vec::new();
        for (config, node) in nodes {
            all.push(Arc::clone(&node));
            rpc.push(
                RpcServer::start(&config, node).await.map_err(|error| CliError::with("JSON-RPC", error))?,
            );
        }
        let metrics =
            MetricsServer::start(metrics, all).await.map_err(|error| CliError::with("metrics", error))?;
        let addresses: Vec<String> =
            rpc.iter().map(|server| format!("http://{}", server.address())).collect();
        eprintln!("JSON-RPC on {}; metrics on http://{}/metrics", addresses.join(", "), metrics.address());
        Ok(Services { rpc, metrics })
    }

    /// Stops them all.
    pub async fn stop(self) {
        for server in self.rpc {
            server.stop().await;
        }
        self.metrics.stop().await;
    }
}

/// A runtime for services, on which Ctrl-C and a termination request set `stop`.
pub fn runtime(stop: &Arc<AtomicBool>) -> Result<Runtime, CliError> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| CliError::with("the services' runtime", error))?;
    let stop = Arc::clone(stop);
    let _in_runtime = runtime.enter();
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| CliError::with("waiting for signals", error))?;
    runtime.spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(_in_runtime);
    Ok(runtime)
}
