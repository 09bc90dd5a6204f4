//! What a node shows to people and programs: JSON-RPC over HTTP and WebSocket, and metrics over HTTP.
//!
//! The node implements [`NodeApi`]; this crate turns it into `temporal_*` methods ([`rpc`]), and into a
//! Prometheus page and a health answer on a port of their own ([`http`]). It holds no chain state, and nothing
//! a client sends reaches the node unless it passed the limits of [`rpc::RpcConfig`].
//!
//! Start reading at [`api`]: it is the whole contract between the node and its services.
#![forbid(unsafe_code)]

pub mod api;
pub mod json;
pub mod metrics;
pub mod refusal;

pub use api::NodeApi;
pub use metrics::MetricsSnapshot;
pub use refusal::{RefusalReason, SubmitError};
