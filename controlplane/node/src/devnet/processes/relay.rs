//! Lets programs outside the namespaces reach the nodes' services: a port on 127.0.0.1 for each, passed on as bytes.

use super::wire::Wires;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Ports that are passed on, until it is dropped.
pub struct Relay {
    runtime: Option<Runtime>,
}

impl Relay {
    /// A relay without a port.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(wires: &Arc<Wires>) -> std::io::Result<Relay> {
        let inside = Arc::clone(wires);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .thread_name("relay")
            // Where the namespace cannot be entered, connecting fails, and whoever asked sees the connection closed.
            .on_thread_start(move || drop(inside.hub().enter()))
            .build()?;
        Ok(Relay { runtime: Some(runtime) })
    }

    /// Passes `port` of 127.0.0.1 (0 takes a free one) on to `to_port` of the node at `ip`. Returns where it listens.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn add(&self, port: u16, ip: IpAddr, to_port: u16) -> std::io::Result<SocketAddr> {
        // Bound here, outside; accepted and connected by the thread inside.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let Some(runtime) = &self.runtime else { return Ok(address) };
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((mut outside, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut node) = TcpStream::connect((ip, to_port)).await {
                        let _ = tokio::io::copy_bidirectional(&mut outside, &mut node).await;
                    }
                });
            }
        });
        Ok(address)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
