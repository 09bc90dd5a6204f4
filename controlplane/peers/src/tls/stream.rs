//! A stream to a member, and the first messages on it.

use super::Alpn;
use super::bans::Gate;
use super::verifier::refusal_of;
use crate::hello::{HELLO_BYTES, Hello};
use crate::membership::Role;
use crate::refusal::{HandshakeError, Refusal};
use crate::session::{EXPORTER_LABEL, SessionId};
use roko_wire::genesis::Endpoint;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use zeroize::Zeroizing;

/// How long a refused connection is kept so that the refusal arrives, and how many bytes of it are read meanwhile.
const LINGER: Duration = Duration::from_millis(200);
const LINGER_READS: usize = 16;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its slot in the membership.
    pub slot: usize,
    /// Its index on the wire.
    pub index: u16,
    /// What it is.
    pub role: Role,
}

/// A stream whose other end is a member of this chain.
#[derive(Debug)]
pub struct PeerStream {
    stream: TlsStream<TcpStream>,
    peer: PeerIdentity,
    alpn: Alpn,
    remote: SocketAddr,
    own: Hello,
    theirs: Hello,
    gate: Gate,
}

impl PeerStream {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        peer: PeerIdentity,
        alpn: Alpn,
        remote: SocketAddr,
        (own, theirs): (Hello, Hello),
        gate: Gate,
    ) -> PeerStream {
        PeerStream { stream, peer, alpn, remote, own, theirs, gate }
    }

    /// Lets last words through to a peer that is banned.
    pub(crate) fn pass_gate(&mut self) {
        self.gate.pass();
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerIdentity {
        self.peer
    }

    /// The protocol that both ends chose.
    #[must_use]
    pub fn alpn(&self) -> Alpn {
        self.alpn
    }

    /// The other end's TCP address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Where the other end's data plane is reached, as it says.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.theirs.endpoint
    }

    /// The session of frames that this end sends.
    #[must_use]
    pub fn own_session(&self) -> SessionId {
        self.own.session
    }

    /// The session of frames that the other end sends.
    #[must_use]
    pub fn their_session(&self) -> SessionId {
        self.theirs.session
    }

    /// The key exchange that was used, for instance "X25519MLKEM768".
    #[must_use]
    pub fn key_exchange(&self) -> String {
        let group = self.stream.get_ref().1.negotiated_key_exchange_group();
        group.map_or_else(|| "none".to_owned(), |group| format!("{:?}", group.name()))
    }

    /// A secret that only the two ends know, for `context` (RFC 8446, 7.5).
    ///
    /// # Errors
    /// Only when TLS is not complete, which it is in a value of this type.
    pub fn export(&self, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HandshakeError> {
        let out = [0; 32];
        let secret = match &self.stream {
            TlsStream::Client(stream) => {
                stream.get_ref().1.export_keying_material(out, EXPORTER_LABEL, Some(context))
            }
            TlsStream::Server(stream) => {
                stream.get_ref().1.export_keying_material(out, EXPORTER_LABEL, Some(context))
            }
        };
        secret.map(Zeroizing::new).map_err(|error| HandshakeError::Io(io::Error::other(error)))
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.gate.check(cx)?;
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.gate.check(cx)?;
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// What an error of a handshake means.
pub(super) fn handshake_error(error: io::Error) -> HandshakeError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls.and_then(refusal_of), error.kind()) {
        (Some(Ok(refusal)), _) => HandshakeError::Refused(refusal),
        (Some(Err(refusal)), _) => HandshakeError::RefusedByPeer(refusal),
        (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            HandshakeError::Refused(Refusal::Closed)
        }
        (None, _) => HandshakeError::Io(error),
    }
}

/// Exchanges first messages and verdicts. `admitted` is this end's verdict on who the other end is.
pub(super) async fn greet(
    stream: &mut TlsStream<TcpStream>,
    own: &Hello,
    peer_index: u16,
    admitted: Result<(), Refusal>,
) -> Result<Hello, HandshakeError> {
    // A failed write is looked at after reading: what the other end said last is the better reason.
    let written = write(stream, &own.to_bytes()).await;
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).await.map_err(handshake_error)?;
    written.map_err(handshake_error)?;
    let checked = Hello::check(&bytes, &own.chain, peer_index).and_then(|theirs| admitted.map(|()| theirs));
    let verdict = checked.err().map_or(0, |refusal| refusal as u8);
    write(stream, &[verdict]).await.map_err(handshake_error)?;
    let mut answer = [0];
    let answered = stream.read_exact(&mut answer).await.map_err(handshake_error);
    if let Err(refusal) = checked {
        let _ = stream.shutdown().await;
        linger(stream).await;
        return Err(HandshakeError::Refused(refusal));
    }
    answered?;
    match answer[0] {
        0 => checked.map_err(HandshakeError::Refused),
        code => Err(HandshakeError::RefusedByPeer(Refusal::from_code(code).unwrap_or(Refusal::WrongHello))),
    }
}

async fn write(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends this end's direction and reads what still comes for a moment: closing with unread bytes makes the kernel reset
/// the connection, and a reset discards what the other end has not read yet.
pub(super) async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let _ = tokio::time::timeout(LINGER, async {
        let _ = stream.shutdown().await;
        let mut discard = [0; 1_024];
        for _ in 0..LINGER_READS {
            if !matches!(stream.read(&mut discard).await, Ok(read) if read > 0) {
                break;
            }
        }
    })
    .await;
}
