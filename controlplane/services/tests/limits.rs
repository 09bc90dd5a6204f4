//! Subscriptions, and what happens to a client that asks for too much or sends garbage.

mod common;

use std::{sync::Arc, time::Duration};

use common::{LedgerOfOne, http, post};
use jsonrpsee::{
    core::{ClientError, client::Subscription},
    ws_client::{WsClient, WsClientBuilder},
};
use roko_services::{
    NodeApi, ServiceError,
    api::BlockSelector,
    rpc::{FinalBlockNotice, RpcConfig, RpcServer, TemporalRpcClient},
};
use roko_wire::{Height, TxId};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn served(change: impl FnOnce(&mut RpcConfig)) -> (Arc<LedgerOfOne>, RpcServer) {
    let ledger = LedgerOfOne::new(&[]);
    let mut config = RpcConfig { listen: ([127, 0, 0, 1], 0).into(), ..RpcConfig::default() };
    change(&mut config);
    let server = RpcServer::start(&config, ledger.clone()).await.unwrap();
    (ledger, server)
}

async fn websocket(server: &RpcServer) -> WsClient {
    WsClientBuilder::default().build(format!("ws://{}", server.address())).await.unwrap()
}

async fn next(blocks: &mut Subscription<FinalBlockNotice>) -> FinalBlockNotice {
    tokio::time::timeout(Duration::from_secs(10), blocks.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn final_blocks_arrive_in_order_until_the_node_stops() {
    let (ledger, server) = served(|_| ()).await;
    let client = websocket(&server).await;
    let mut blocks = client.subscribe_final_blocks().await.unwrap();
    for _ in 0..3 {
        let block = ledger.make_block();
        assert_eq!(next(&mut blocks).await, FinalBlockNotice::Block { block });
    }
    ledger.stop();
    let end = tokio::time::timeout(Duration::from_secs(10), blocks.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

#[tokio::test]
async fn a_subscriber_that_was_lapped_is_told_how_many_it_missed() {
    let (ledger, server) = served(|_| ()).await;
    let client = websocket(&server).await;
    let mut blocks = client.subscribe_final_blocks().await.unwrap();
    // The server's task cannot run before this task waits, so ten blocks meet a channel that holds four.
    let made: Vec<_> = (0..10).map(|_| ledger.make_block()).collect();
    assert_eq!(next(&mut blocks).await, FinalBlockNotice::Lagged { missed: 6 });
    for block in &made[6..] {
        assert_eq!(next(&mut blocks).await, FinalBlockNotice::Block { block: block.clone() });
    }
}

/// A WebSocket client that reads only when it is told to; RFC 6455 by hand.
struct DeafSubscriber(TcpStream);

impl DeafSubscriber {
    async fn subscribe(server: &RpcServer) -> DeafSubscriber {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        let call =
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"temporal_subscribeFinalBlocks\",\"params\":[]}";
        // Final text frame, masked with zeros.
        stream.write_all(&[0x81, 0x80 | call.len() as u8, 0, 0, 0, 0]).await.unwrap();
        stream.write_all(call.as_bytes()).await.unwrap();
        let mut subscriber = DeafSubscriber(stream);
        assert!(subscriber.message().await["result"].is_number());
        subscriber
    }

    async fn message(&mut self) -> Value {
        let mut text = Vec::new();
        loop {
            let [first, short] = self.0.read_u16().await.unwrap().to_be_bytes();
            let length = match short {
                127 => self.0.read_u64().await.unwrap() as usize,
                126 => usize::from(self.0.read_u16().await.unwrap()),
                length => usize::from(length),
            };
            let mut part = vec![0; length];
            self.0.read_exact(&mut part).await.unwrap();
            // Pings come between messages, and between the parts of one.
            if first & 0x0f >= 8 {
                continue;
            }
            text.extend_from_slice(&part);
            if first & 0x80 != 0 {
                return serde_json::from_slice(&text).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_misses_blocks_and_none_silently() {
    // 28 MB of JSON: more than the sockets of a connection hold.
    const BLOCKS: u64 = 200;
    let (ledger, server) = served(|config| config.messages_buffered_max = 2).await;
    let mut subscriber = DeafSubscriber::subscribe(&server).await;
    let ids = vec![TxId([7; 32]); 2_000];
    for _ in 0..BLOCKS {
        ledger.make_block_with(&ids);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (mut received, mut missed, mut height) = (0, 0, 0);
    while height < BLOCKS {
        let message = tokio::time::timeout(Duration::from_secs(10), subscriber.message()).await.unwrap();
        match serde_json::from_value(message["params"]["result"].clone()).unwrap() {
            FinalBlockNotice::Block { block } => {
                received += 1;
                height += 1;
                assert_eq!(block.height, Height(height), "a block is missing without a notice");
            }
            FinalBlockNotice::Lagged { missed: count } => {
                missed += count;
                height += count;
            }
        }
    }
    assert_eq!(received + missed, BLOCKS);
    assert!(missed > 0 && received > 0, "received {received}, missed {missed}");
    // What was missed can still be asked for.
    let client = websocket(&server).await;
    let block = client.get_block(BlockSelector::Height(Height(BLOCKS / 2))).await.unwrap().unwrap();
    assert_eq!(block.transactions, ids);
}

#[tokio::test]
async fn subscriptions_of_a_connection_are_limited() {
    let (_ledger, server) = served(|config| config.subscriptions_per_connection_max = 1).await;
    let client = websocket(&server).await;
    let first = client.subscribe_final_blocks().await.unwrap();
    match client.subscribe_final_blocks().await.unwrap_err() {
        ClientError::Call(error) => assert_eq!(error.code(), -32_006),
        other => panic!("{other:?}"),
    }
    first.unsubscribe().await.unwrap();
    client.subscribe_final_blocks().await.unwrap();
}

fn code(body: &str) -> i64 {
    let value: Value = serde_json::from_str(body).unwrap();
    value["error"]["code"].as_i64().unwrap()
}

#[tokio::test]
async fn garbage_is_answered_and_the_server_goes_on() {
    let (_ledger, server) = served(|config| config.batch_calls_max = 2).await;
    let address = server.address();
    assert_eq!(code(&post(address, "{\"jsonrpc\":").await.1), -32_700);
    assert_eq!(code(&post(address, "\u{1}\u{2}").await.1), -32_700);
    assert_eq!(code(&post(address, "{\"id\":1,\"hello\":1}").await.1), -32_600);
    let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"temporal_getConsensusTime\",\"params\":[]}";
    assert_eq!(code(&post(address, &format!("[{call},{call},{call}]")).await.1), -32_010);
    let nested = "[".repeat(10_000);
    assert_eq!(code(&post(address, &nested).await.1), -32_700);

    let (status, body) = post(address, call).await;
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Value>(&body).unwrap()["result"]["height"] == "0", "{body}");
    let (status, ..) = http(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let (ledger, server) = served(|config| config.request_bytes_max = 1_000).await;
    let raw = "00".repeat(1_000);
    let call = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"temporal_sendTransaction\",\"params\":[\"{raw}\"]}}"
    );
    assert_eq!(post(server.address(), &call).await.0, 413);

    let client = websocket(&server).await;
    // The server cannot know the id of what it did not read, so its answer names no call and this client gives up.
    let error = client.send_transaction(raw).await.unwrap_err();
    assert!(matches!(error, ClientError::RestartNeeded(_)), "{error:?}");
    assert_eq!(ledger.queue_stats().refused, [], "the node saw it");
}

#[tokio::test]
async fn connections_are_limited_and_come_free_again() {
    let (_ledger, server) = served(|config| config.connections_max = 1).await;
    let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"temporal_getConsensusTime\",\"params\":[]}";
    let client = websocket(&server).await;
    client.get_consensus_time().await.unwrap();
    assert_eq!(post(server.address(), call).await.0, 429);
    drop(client);
    for _ in 0..100 {
        if post(server.address(), call).await.0 == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the connection was not given back");
}

#[tokio::test]
async fn a_taken_port_is_reported_and_a_stopped_server_gives_its_port_back() {
    let (ledger, server) = served(|_| ()).await;
    let config = RpcConfig { listen: server.address(), ..RpcConfig::default() };
    let node: Arc<dyn NodeApi> = ledger;
    let error: ServiceError = RpcServer::start(&config, node.clone()).await.unwrap_err();
    assert!(error.to_string().contains("free the port"), "{error}");
    tokio::time::timeout(Duration::from_secs(10), server.stop()).await.unwrap();
    RpcServer::start(&config, node).await.unwrap();
}
