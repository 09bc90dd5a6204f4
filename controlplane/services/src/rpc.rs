//! The `temporal_*` methods, and the server of all methods: JSON-RPC 2.0 over HTTP and WebSocket on one port.
//!
//! The order of the checks: connections, body size, batch length, parameters, and only then the node. A client that
//! reads too slowly costs a bounded number of messages ([`RpcConfig::messages_buffered_max`]), then misses blocks
//! and is told how many ([`FinalBlockNotice::Lagged`]).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use jsonrpsee::{
    PendingSubscriptionSink, SubscriptionMessage,
    core::{SubscriptionResult, async_trait},
    proc_macros::rpc,
    server::{BatchRequestConfig, PingConfig, Server, ServerConfig, ServerHandle},
    types::{ErrorObjectOwned, error::INVALID_PARAMS_CODE},
};
use roko_wire::{Address, TxId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    ServiceError,
    api::{AccountInfo, BlockInfo, BlockSelector, ConsensusTime, NodeApi, QueueStats, TransactionInfo},
    ethereum::rpc::{EthereumMethods, EthereumRpcServer},
    json,
    refusal::{BEFORE_SNAPSHOT_CODE, SubmitError, before_snapshot},
};

/// Where the server listens and what a client may ask of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Largest request body or WebSocket message, bytes.
    pub request_bytes_max: u32,
    /// Largest answer, bytes.
    pub response_bytes_max: u32,
    /// Most calls in one batch.
    pub batch_calls_max: u32,
    /// Most open connections, HTTP and WebSocket together.
    pub connections_max: u32,
    /// Most subscriptions on one connection.
    pub subscriptions_per_connection_max: u32,
    /// Most messages that wait for a slow WebSocket client; past it, its subscriptions fall behind.
    pub messages_buffered_max: u32,
    /// A WebSocket client that answers no ping for this long is cut off, seconds.
    pub idle_s_max: u64,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9944).into(),
            // A batch of 32 transactions of 1,232 bytes is 79 KiB of hexadecimal digits.
            request_bytes_max: 128 * 1024,
            // The ids of a block of 8,192 transactions are 565 KiB of JSON.
            response_bytes_max: 1024 * 1024,
            batch_calls_max: 32,
            connections_max: 128,
            subscriptions_per_connection_max: 4,
            messages_buffered_max: 16,
            idle_s_max: 60,
        }
    }
}

/// What a subscriber to final blocks receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum FinalBlockNotice {
    /// The next final block.
    Block {
        /// The block.
        #[serde(with = "json::shared")]
        block: Arc<BlockInfo>,
    },
    /// The subscriber was too slow: final blocks were skipped here. They are in `temporal_getBlock`.
    Lagged {
        /// How many were skipped.
        #[serde(with = "json::decimal")]
        missed: u64,
    },
}

/// The methods. The macro makes the server's trait, and a client's trait for HTTP and WebSocket clients.
#[rpc(server, client, namespace = "temporal")]
pub trait TemporalRpc {
    /// Submits a transaction: its canonical bytes and signature in hexadecimal. Returns its id.
    #[method(name = "sendTransaction")]
    fn send_transaction(&self, raw: String) -> Result<TxId, ErrorObjectOwned>;

    /// A transaction and what has become of it; `null` when it is unknown.
    #[method(name = "getTransaction")]
    fn get_transaction(&self, id: TxId) -> Result<Option<TransactionInfo>, ErrorObjectOwned>;

    /// A block by `"latest"`, `"final"`, height or id; `null` when the node does not have it, an error when it is before
    /// the snapshot that the node began from.
    #[method(name = "getBlock")]
    fn get_block(&self, block: BlockSelector) -> Result<Option<BlockInfo>, ErrorObjectOwned>;

    /// An account's balance and nonce.
    #[method(name = "getBalance")]
    fn get_balance(&self, address: Address) -> Result<AccountInfo, ErrorObjectOwned>;

    /// The node's clock with its bound, and the chain's tip.
    #[method(name = "getConsensusTime")]
    fn get_consensus_time(&self) -> Result<ConsensusTime, ErrorObjectOwned>;

    /// Depths, capacities and drops of the mempool and the rings.
    #[method(name = "getQueueStats")]
    fn get_queue_stats(&self) -> Result<QueueStats, ErrorObjectOwned>;

    /// Blocks as they become final, in height order. WebSocket only.
    #[subscription(
        name = "subscribeFinalBlocks" => "finalBlock",
        unsubscribe = "unsubscribeFinalBlocks",
        item = FinalBlockNotice
    )]
    async fn subscribe_final_blocks(&self) -> SubscriptionResult;
}

/// Serves the methods from a node.
struct Methods {
    node: Arc<dyn NodeApi>,
}

#[async_trait]
impl TemporalRpcServer for Methods {
    fn send_transaction(&self, raw: String) -> Result<TxId, ErrorObjectOwned> {
        let bytes = hex::decode(raw.strip_prefix("0x").unwrap_or(&raw)).map_err(|error| {
            let message = format!("raw is not hexadecimal ({error}): send \"0x\" and two digits a byte");
            ErrorObjectOwned::owned(INVALID_PARAMS_CODE, message, None::<()>)
        })?;
        self.node.submit(bytes).map_err(ErrorObjectOwned::from)
    }

    fn get_transaction(&self, id: TxId) -> Result<Option<TransactionInfo>, ErrorObjectOwned> {
        Ok(self.node.transaction(id))
    }

    fn get_block(&self, block: BlockSelector) -> Result<Option<BlockInfo>, ErrorObjectOwned> {
        if let BlockSelector::Height(height) = block
            && let Some(why) = before_snapshot(height, self.node.first_block())
        {
            return Err(ErrorObjectOwned::owned(BEFORE_SNAPSHOT_CODE, why, None::<()>));
        }
        Ok(self.node.block(block).map(Arc::unwrap_or_clone))
    }

    fn get_balance(&self, address: Address) -> Result<AccountInfo, ErrorObjectOwned> {
        Ok(self.node.balance(address))
    }

    fn get_consensus_time(&self) -> Result<ConsensusTime, ErrorObjectOwned> {
        Ok(self.node.consensus_time())
    }

    fn get_queue_stats(&self) -> Result<QueueStats, ErrorObjectOwned> {
        Ok(self.node.queue_stats())
    }

    async fn subscribe_final_blocks(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        // The receiver comes first: a block that becomes final after the acknowledgement is never missed.
        let mut blocks = self.node.subscribe_final();
        let sink = pending.accept().await?;
        loop {
            let received = tokio::select! {
                () = sink.closed() => return Ok(()),
                received = blocks.recv() => received,
            };
            let notice = match received {
                Ok(block) => FinalBlockNotice::Block { block },
                Err(RecvError::Lagged(missed)) => FinalBlockNotice::Lagged { missed },
                Err(RecvError::Closed) => return Err("the node has stopped: connect to another node".into()),
            };
            let message = SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), &notice)?;
            sink.send(message).await?;
        }
    }
}

impl From<SubmitError> for ErrorObjectOwned {
    fn from(error: SubmitError) -> Self {
        ErrorObjectOwned::owned(error.code(), error.to_string(), Some(&error))
    }
}

/// A running RPC server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct RpcServer {
    handle: ServerHandle,
    address: SocketAddr,
}

impl RpcServer {
    /// Binds and serves on the current tokio runtime.
    pub async fn start(config: &RpcConfig, node: Arc<dyn NodeApi>) -> Result<RpcServer, ServiceError> {
        let idle_max = Duration::from_secs(config.idle_s_max.max(2));
        let limits = ServerConfig::builder()
            .max_request_body_size(config.request_bytes_max)
            .max_response_body_size(config.response_bytes_max)
            .set_batch_request_config(BatchRequestConfig::Limit(config.batch_calls_max))
            .max_connections(config.connections_max)
            .max_subscriptions_per_connection(config.subscriptions_per_connection_max)
            .set_message_buffer_capacity(config.messages_buffered_max)
            .enable_ws_ping(PingConfig::new().ping_interval(idle_max / 2).inactive_limit(idle_max))
            .build();
        let cannot_listen =
            |source| ServiceError::Listen { service: "JSON-RPC", address: config.listen, source };
        let server =
            Server::builder().set_config(limits).build(config.listen).await.map_err(cannot_listen)?;
        let address = server.local_addr().map_err(cannot_listen)?;
        let mut methods = Methods { node: Arc::clone(&node) }.into_rpc().remove_context();
        if let Some(ethereum) = EthereumMethods::of(node) {
            methods.merge(ethereum.into_rpc()).expect("no two methods share a name");
        }
        Ok(RpcServer { handle: server.start(methods), address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, ends every connection and waits until they are gone.
    pub async fn stop(self) {
        // A server that stopped by itself is what is wanted here.
        let _ = self.handle.stop();
        self.handle.stopped().await;
    }
}
