//! Handshakes over loopback: who gets in, and how each of the others is refused, by name at both ends.

use super::certificate::{WINDOW_BEFORE_S, WINDOW_S, certificate, certified};
use super::*;
use crate::membership::tests::{client, membership};
use roko_wire::genesis::Preset;
use roko_wire::{ChainId, Hash32};
use rustls::sign::SingleCertAndKey;
use std::net::IpAddr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc::Receiver;

const NOW_S: u64 = 1_800_000_000;
/// Longer than any test's wait takes on a busy machine, and far below forever.
const PATIENCE: Duration = Duration::from_secs(20);

fn facts() -> ChainFacts {
    ChainFacts { genesis_hash: Hash32([9; 32]), chain_id: ChainId(77), preset: Preset::Balanced }
}

/// Seeds 1 and 2 are validators 0 and 1, seed 50 is client 0x8001.
fn members() -> Arc<Membership> {
    Arc::new(membership(2, &[client(0x8001, 50)]).unwrap())
}

fn config(seed: u8) -> TlsConfig {
    TlsConfig {
        identity: Arc::new(NodeIdentity::from_seed(&[seed; 32])),
        members: members(),
        chain: facts(),
        boot: BootStamp::new(1_000).unwrap(),
        endpoint: Endpoint { ip: [10, 0, 0, seed].into(), port: 7_700 },
        limits: HandshakeLimits { time_ms_max: 2_000, fair_ms: 200, ..HandshakeLimits::default() },
        clock: WallClock::new(|| NOW_S),
        log: Arc::new(|_| {}),
    }
}

fn endpoint(seed: u8) -> TlsEndpoint {
    TlsEndpoint::new(config(seed)).unwrap()
}

/// A node that listens.
struct Server {
    endpoint: Arc<TlsEndpoint>,
    address: SocketAddr,
    frames: Receiver<PeerStream>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(endpoint: TlsEndpoint) -> Server {
        let endpoint = Arc::new(endpoint);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let frames = endpoint.routes().register(Alpn::FRAMES, 16);
        let member: IpAddr = [127, 0, 0, 1].into();
        let task = tokio::spawn(Listener::serve(Arc::clone(&endpoint), socket, vec![member]));
        Server { endpoint, address, frames, task }
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        self.endpoint.counters().refused(refusal)
    }

    /// Waits until `refusal` was counted `times` times.
    async fn wait_for(&self, refusal: Refusal, times: u64) {
        let until = Instant::now() + PATIENCE;
        while self.refused(refusal) < times {
            assert!(Instant::now() < until, "{} {}", refusal.label(), self.refused(refusal));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The validator 0 dials validator 1 and is refused; returns what each end says.
async fn refusal(dialer: TlsEndpoint, server: TlsEndpoint) -> (Refusal, HandshakeError) {
    let server = Server::start(server).await;
    let error = dialer.connect(server.address, 1, Alpn::FRAMES).await.map(|_| ()).unwrap_err();
    let until = Instant::now() + PATIENCE;
    loop {
        let counted = Refusal::ALL.iter().find(|refusal| {
            let counters = server.endpoint.counters();
            counters.refused(**refusal) + counters.refusals_by_peers(**refusal) > 0
        });
        if let Some(refusal) = counted {
            return (*refusal, error);
        }
        assert!(Instant::now() < until, "the server counts nothing");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn members_get_a_stream_and_one_secret_by_the_hybrid_exchange() {
    let mut server = Server::start(endpoint(2)).await;
    for seed in [1, 50] {
        let dialer = endpoint(seed);
        let mut near = dialer.connect(server.address, 1, Alpn::FRAMES).await.unwrap();
        let mut far = server.frames.recv().await.unwrap();
        assert_eq!((near.peer().slot, near.peer().index), (1, 1));
        assert_eq!(far.peer().slot, dialer.own_slot());
        assert_eq!(near.key_exchange(), "X25519MLKEM768");
        assert_eq!(*near.export(b"a").unwrap(), *far.export(b"a").unwrap());
        assert_ne!(*near.export(b"a").unwrap(), *far.export(b"b").unwrap());
        assert_eq!((near.own_session(), near.their_session()), (far.their_session(), far.own_session()));
        assert_eq!(far.endpoint(), dialer.endpoint());
        near.write_all(b"hello").await.unwrap();
        near.flush().await.unwrap();
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }
    assert_eq!(server.endpoint.counters().completed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn another_protocol_has_streams_of_its_own_and_nobody_to_take_them_is_busy() {
    let server = Server::start(endpoint(2)).await;
    let dialer = endpoint(1);
    let refused = dialer.connect(server.address, 1, Alpn::SYNC).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(Refusal::Busy));
    let mut sync = server.endpoint.routes().register(Alpn::SYNC, 4);
    let near = dialer.connect(server.address, 1, Alpn::SYNC).await.unwrap();
    let far = sync.recv().await.unwrap();
    assert_eq!((near.alpn(), far.alpn()), (Alpn::SYNC, Alpn::SYNC));
    assert_eq!(far.peer().index, 0);
}

#[tokio::test]
async fn a_stranger_is_refused_at_both_ends() {
    // To make an endpoint at all the stranger needs a membership in which he is: his own.
    let strange = || Arc::new(membership(2, &[client(0x8001, 66)]).unwrap());
    let dialer = TlsEndpoint::new(TlsConfig { members: strange(), ..config(66) }).unwrap();
    let (counted, error) = refusal(dialer, endpoint(2)).await;
    assert_eq!(counted, Refusal::Stranger);
    assert!(matches!(error, HandshakeError::RefusedByPeer(Refusal::Stranger)), "{error}");
    let server = TlsEndpoint::new(TlsConfig { members: strange(), ..config(66) }).unwrap();
    let (counted, error) = refusal(endpoint(1), server).await;
    assert_eq!(counted, Refusal::Stranger, "as the other end's refusal");
    assert!(matches!(error, HandshakeError::Refused(Refusal::Stranger)), "{error}");
}

#[tokio::test]
async fn another_chain_is_refused_by_what_differs() {
    for (chain, want) in [
        (ChainFacts { genesis_hash: Hash32([8; 32]), ..facts() }, Refusal::WrongGenesis),
        (ChainFacts { chain_id: ChainId(78), ..facts() }, Refusal::WrongChain),
        (ChainFacts { preset: Preset::Fast, ..facts() }, Refusal::WrongPreset),
    ] {
        let dialer = TlsEndpoint::new(TlsConfig { chain, ..config(1) }).unwrap();
        let (counted, error) = refusal(dialer, endpoint(2)).await;
        assert_eq!((counted, error.refusal()), (want, Some(want)));
    }
}

#[tokio::test]
async fn certificates_outside_their_window_are_refused() {
    let at = |seconds: u64| TlsConfig { clock: WallClock::new(move || seconds), ..config(1) };
    let late = TlsEndpoint::new(at(NOW_S - WINDOW_S - 10)).unwrap();
    let (counted, error) = refusal(late, endpoint(2)).await;
    // The dialer's clock stands too early for the server's certificate, and the dialer looks first.
    assert_eq!(counted, Refusal::CertificateExpired, "as the other end's refusal");
    assert!(matches!(error, HandshakeError::Refused(Refusal::CertificateNotYetValid)), "{error}");
    for (from_s, until_s, want) in [
        (NOW_S - 100, NOW_S - 1, Refusal::CertificateExpired),
        (NOW_S + 1, NOW_S + 100, Refusal::CertificateNotYetValid),
    ] {
        let identity = Arc::new(NodeIdentity::from_seed(&[1; 32]));
        let der = certificate(&identity, from_s, until_s).unwrap();
        let (counted, error) = refusal(presenting(endpoint(1), certified(der, &identity)), endpoint(2)).await;
        assert_eq!(counted, want);
        assert!(matches!(error, HandshakeError::RefusedByPeer(Refusal::CertificateExpired)), "{error}");
    }
}

/// The endpoint with another certificate.
fn presenting(mut endpoint: TlsEndpoint, key: rustls::sign::CertifiedKey) -> TlsEndpoint {
    let resolver = Arc::new(SingleCertAndKey::from(key));
    endpoint.client.client_auth_cert_resolver = Arc::clone(&resolver) as _;
    let mut server = (*endpoint.server).clone();
    server.cert_resolver = resolver;
    endpoint.server = Arc::new(server);
    endpoint
}

#[tokio::test]
async fn a_stolen_certificate_is_refused_at_both_ends() {
    let window = (NOW_S - WINDOW_BEFORE_S, NOW_S + WINDOW_S);
    let thief = Arc::new(NodeIdentity::from_seed(&[66; 32]));
    let of = |seed: u8| {
        let victim = Arc::new(NodeIdentity::from_seed(&[seed; 32]));
        certified(certificate(&victim, window.0, window.1).unwrap(), &thief)
    };
    let (counted, error) = refusal(presenting(endpoint(1), of(1)), endpoint(2)).await;
    assert_eq!(counted, Refusal::StolenCertificate);
    assert!(matches!(error, HandshakeError::RefusedByPeer(Refusal::StolenCertificate)), "{error}");
    let (counted, error) = refusal(endpoint(1), presenting(endpoint(2), of(2))).await;
    assert_eq!(counted, Refusal::StolenCertificate, "as the other end's refusal");
    assert!(matches!(error, HandshakeError::Refused(Refusal::StolenCertificate)), "{error}");
}

#[tokio::test]
async fn a_certificate_that_another_key_signed_is_refused() {
    let (member, other) =
        (Arc::new(NodeIdentity::from_seed(&[1; 32])), Arc::new(NodeIdentity::from_seed(&[66; 32])));
    let good = certificate(&member, NOW_S - 10, NOW_S + 10).unwrap();
    let forged = certificate(&other, NOW_S - 10, NOW_S + 1_000_000).unwrap();
    // The member's key in a certificate whose window the other one chose and signed.
    let (NodeKeyBytes(from), NodeKeyBytes(to)) = (key_of(&other), key_of(&member));
    let bytes = forged.as_ref().to_vec();
    let at = bytes.windows(32).position(|window| window == from).unwrap();
    let mut spliced = bytes;
    spliced[at..at + 32].copy_from_slice(&to);
    let (counted, error) =
        refusal(presenting(endpoint(1), certified(spliced.into(), &member)), endpoint(2)).await;
    assert_eq!((counted, error.refusal()), (Refusal::BadCertificate, Some(Refusal::BadCertificate)));
    let kept = presenting(endpoint(1), certified(good, &member));
    let server = Server::start(endpoint(2)).await;
    assert!(kept.connect(server.address, 1, Alpn::FRAMES).await.is_ok(), "unchanged it is good");
}

struct NodeKeyBytes([u8; 32]);

fn key_of(identity: &NodeIdentity) -> NodeKeyBytes {
    NodeKeyBytes(identity.node_key().0)
}

#[tokio::test]
async fn another_protocol_another_peer_and_the_wrong_dialer_are_refused() {
    let (counted, error) = {
        let server = Server::start(endpoint(2)).await;
        let dialer = endpoint(1);
        let error = dialer.connect(server.address, 1, Alpn("http/1.1")).await.map(|_| ()).unwrap_err();
        server.wait_for(Refusal::WrongAlpn, 1).await;
        (Refusal::WrongAlpn, error)
    };
    assert_eq!(error.refusal(), Some(counted));
    let server = Server::start(endpoint(2)).await;
    let wrong = endpoint(1).connect(server.address, 2, Alpn::FRAMES).await.map(|_| ()).unwrap_err();
    assert!(matches!(wrong, HandshakeError::Refused(Refusal::WrongPeer)), "{wrong}");
    let first = Server::start(endpoint(1)).await;
    let wrong = endpoint(2).connect(first.address, 0, Alpn::FRAMES).await.map(|_| ()).unwrap_err();
    assert!(matches!(wrong, HandshakeError::RefusedByPeer(Refusal::WrongDialer)), "{wrong}");
    first.wait_for(Refusal::WrongDialer, 1).await;
}

#[tokio::test]
async fn what_is_not_tls_and_older_tls_are_refused() {
    let server = Server::start(endpoint(2)).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    server.wait_for(Refusal::NotTls, 1).await;
    // A ClientHello of TLS 1.2: version, random, no session, one cipher suite, no compression, no extensions.
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    let mut record = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    record.extend(body);
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(&record).await.unwrap();
    server.wait_for(Refusal::WrongTlsVersion, 1).await;
    let mut alert = [0; 7];
    tcp.read_exact(&mut alert).await.unwrap();
    assert_eq!((alert[0], alert[5]), (21, 2), "a fatal alert says so");
}

/// Connects from another address of the loopback network.
async fn connect_from(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::from(from), 0).into())?;
    socket.connect(to).await
}

/// Floods a server from `address(number)`: half never speak, half send garbage. Returns how long a good peer takes.
async fn time_under_flood(address: impl Fn(u8) -> [u8; 4]) -> (Duration, Server) {
    let mut server = Server::start(endpoint(2)).await;
    let mut open = Vec::new();
    for number in 0..240u8 {
        let Ok(mut tcp) = connect_from(address(number), server.address).await else { continue };
        if number % 2 == 0 {
            // What is refused may be closed already.
            let _ = tcp.write_all(&[22, 3, 1, 1, 0, number, 0xff, 0, 1, 2, 3]).await;
        }
        open.push(tcp);
    }
    let (began, dialer) = (Instant::now(), endpoint(1));
    let mut backoff = crate::backoff::Backoff::new(20, 200);
    while dialer.connect(server.address, 1, Alpn::FRAMES).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the good peer never gets in");
        tokio::time::sleep(Duration::from_millis(backoff.after_failure(7))).await;
    }
    let took = began.elapsed();
    assert!(server.frames.recv().await.is_some());
    let limits = server.endpoint.limits();
    let half_open = server.endpoint.counters().half_open.load(Ordering::Relaxed);
    assert!(half_open <= 2 * limits.half_open_max as u64, "{half_open}");
    drop(open);
    (took, server)
}

#[tokio::test]
async fn a_good_peer_gets_in_at_once_under_a_flood_from_elsewhere() {
    let (took, server) = time_under_flood(|number| [127, 0, 1, number % 60 + 1]).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let refused: u64 =
        [Refusal::TooManyHalfOpen, Refusal::TooManyOfAddress, Refusal::NotTls, Refusal::Displaced]
            .iter()
            .map(|refusal| server.refused(*refusal))
            .sum();
    assert!(refused > 0, "the flood is counted");
}

#[tokio::test]
async fn a_good_peer_gets_in_even_when_the_flood_has_its_address() {
    let (took, server) = time_under_flood(|_| [127, 0, 0, 1]).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let limited = server.refused(Refusal::TooManyOfAddress) + server.refused(Refusal::TooOften);
    assert!(limited > 0, "the flood is limited");
}

#[tokio::test]
async fn whoever_never_speaks_is_gone_after_the_time_limit() {
    let server = Server::start(endpoint(2)).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    server.wait_for(Refusal::Timeout, 1).await;
    assert_eq!(server.endpoint.counters().half_open.load(Ordering::Relaxed), 0);
    drop(silent);
}
