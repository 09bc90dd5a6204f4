//! What a node shows to people and programs: JSON-RPC over HTTP and WebSocket, and metrics over HTTP.
//!
//! The node implements [`NodeApi`]; this crate turns it into `temporal_*` methods ([`rpc`]), into Ethereum's `eth_*`
//! methods beside them ([`ethereum`]), and into a Prometheus page and a health answer on a port of their own ([`http`]). It holds no chain state, and nothing
//! a client sends reaches the node unless it passed the limits of [`rpc::RpcConfig`].
//!
//! Start reading at [`api`]: it is the whole contract between the node and its services.
#![forbid(unsafe_code)]

pub mod api;
pub mod ethereum;
pub mod http;
pub mod json;
pub mod metrics;
pub mod refusal;
pub mod rpc;

pub use api::NodeApi;
pub use metrics::MetricsSnapshot;
pub use refusal::{RefusalReason, SubmitError};

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} for {service}: {source}; free the port or set another address in the node's config"
    )]
    Listen {
        /// Which service.
        service: &'static str,
        /// The configured address.
        address: std::net::SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
}
