//! Handshakes between two members over loopback TCP, both ends on one core: mutual TLS 1.3 with X25519MLKEM768, the other
//! end's key checked against the members, chains compared, a stream at either end.
//!
//! Beside it: rustls alone, mutual too, with the same suites and certificates, which takes any certificate whose holder
//! signs, and compares nothing. What lies between the two is the certificate's window and self-signature, the look among
//! the members, limits, and one more round trip.

use roko_benches::{Comparison, Report};
use roko_peers::tls::certificate::{certificate, certified};
use roko_peers::tls::{Alpn, Listener, TlsConfig, WallClock};
use roko_peers::{
    BootStamp, ChainFacts, ClientEntry, HandshakeLimits, Membership, NodeIdentity, PeerStream, TlsEndpoint,
};
use roko_wire::genesis::{Endpoint, Genesis, GenesisLimits, Preset};
use roko_wire::{ChainId, Hash32, NanoMoment};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

/// The certificates' windows, seconds since 1970: the bench's clock stands between.
const WINDOW: (u64, u64) = (1_800_000_000, 1_900_000_000);
const NOW_S: u64 = 1_850_000_000;

fn identity(seed: u8) -> Arc<NodeIdentity> {
    Arc::new(NodeIdentity::from_seed(&[seed; 32]))
}

/// Two clients of a chain without validators: to TLS a member is a member.
fn members() -> Arc<Membership> {
    let client = |(index, seed): (u16, u8)| ClientEntry {
        index,
        node_key: identity(seed).node_key(),
        endpoint: Endpoint { ip: [10, 0, 0, seed].into(), port: 7_700 },
    };
    let genesis = Genesis {
        chain_id: ChainId(77),
        time: NanoMoment(0),
        tai_offset_s: 37,
        preset: Preset::Balanced,
        seed: Hash32::ZERO,
        validators: Vec::new(),
        balances: Vec::new(),
        limits: GenesisLimits::default(),
    };
    let clients = [(0x8000, 1), (0x8001, 2)].map(client);
    let mac = |at: &Endpoint| roko_peers::membership::derived_mac(&at.ip);
    Arc::new(Membership::new(&genesis, &clients, mac).expect("two clients"))
}

fn endpoint(seed: u8) -> Arc<TlsEndpoint> {
    let unlimited = 1_000_000;
    let made = TlsEndpoint::new(TlsConfig {
        identity: identity(seed),
        members: members(),
        chain: ChainFacts { genesis_hash: Hash32([9; 32]), chain_id: ChainId(77), preset: Preset::Balanced },
        boot: BootStamp::new(1_000).expect("it is below 2^48"),
        endpoint: Endpoint { ip: [10, 0, 0, seed].into(), port: 7_700 },
        limits: HandshakeLimits {
            per_address_per_second: unlimited,
            per_address_burst: unlimited,
            ..HandshakeLimits::default()
        },
        clock: WallClock::new(|| NOW_S),
        log: Arc::new(|line| panic!("{line}")),
    });
    Arc::new(made.expect("a member"))
}

struct Members {
    dialer: Arc<TlsEndpoint>,
    address: SocketAddr,
    accepted: Receiver<PeerStream>,
}

impl Members {
    async fn start() -> Members {
        let server = endpoint(2);
        let accepted = server.routes().register(Alpn::SYNC, 4);
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        tokio::spawn(Listener::serve(server, socket, Vec::new()));
        Members { dialer: endpoint(1), address, accepted }
    }

    async fn handshake(&mut self) {
        let near = self.dialer.connect(self.address, 1, Alpn::SYNC).await.expect("a member");
        let far = self.accepted.recv().await.expect("the listener runs");
        assert_eq!((near.peer().slot, far.peer().slot), (1, 0));
    }
}

/// Takes any certificate whose holder signs.
#[derive(Debug)]
struct Anyone(CryptoProvider);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

struct Plain {
    connector: tokio_rustls::TlsConnector,
    acceptor: tokio_rustls::TlsAcceptor,
    socket: TcpListener,
}

impl Plain {
    async fn start(group: &'static dyn rustls::crypto::SupportedKxGroup) -> Plain {
        let provider = CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
            kx_groups: vec![group],
            ..default_provider()
        };
        let own = |seed| {
            let identity = identity(seed);
            let der = certificate(&identity, WINDOW.0, WINDOW.1).expect("a window of this century");
            Arc::new(SingleCertAndKey::from(certified(der, &identity)))
        };
        let anyone = Arc::new(Anyone(provider.clone()));
        let provider = Arc::new(provider);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is built in")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&anyone) as _)
            .with_client_cert_resolver(own(1));
        client.resumption = rustls::client::Resumption::disabled();
        client.enable_sni = false;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is built in")
            .with_client_cert_verifier(anyone)
            .with_cert_resolver(own(2));
        server.send_tls13_tickets = 0;
        Plain {
            connector: Arc::new(client).into(),
            acceptor: Arc::new(server).into(),
            socket: TcpListener::bind("127.0.0.1:0").await.expect("a free port"),
        }
    }

    async fn handshake(&self) {
        let address = self.socket.local_addr().expect("it is bound");
        let dial = async {
            let tcp = TcpStream::connect(address).await.expect("it listens");
            tcp.set_nodelay(true).expect("a socket");
            self.connector.connect(ServerName::IpAddress(address.ip().into()), tcp).await
        };
        let accept = async {
            let (tcp, _) = self.socket.accept().await.expect("somebody dials");
            tcp.set_nodelay(true).expect("a socket");
            self.acceptor.accept(tcp).await
        };
        let (near, far) = tokio::join!(dial, accept);
        assert!(near.is_ok() && far.is_ok());
    }
}

fn main() {
    let mut report = Report::new("handshake", "none; loopback TCP");
    let mut criterion = Report::criterion();
    // One thread carries both ends: the rate is that of one core which does the work of two.
    let runtime: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut members = runtime.block_on(Members::start());
    let hybrid = runtime.block_on(Plain::start(kx_group::X25519MLKEM768));
    let classical = runtime.block_on(Plain::start(kx_group::X25519));
    let runtime = &runtime;
    let timed = |count: u64, mut one: Box<dyn FnMut() + '_>| -> Duration {
        let began = Instant::now();
        (0..count).for_each(|_| one());
        began.elapsed()
    };
    Comparison::new("handshake/ends=2", 1)
        .case("roko_members", |count| timed(count, Box::new(|| runtime.block_on(members.handshake()))))
        .case("rustls_anyone", |count| timed(count, Box::new(|| runtime.block_on(hybrid.handshake()))))
        .floor_ratio(1.5)
        .case("rustls_anyone_x25519", |count| {
            timed(count, Box::new(|| runtime.block_on(classical.handshake())))
        })
        .run(&mut criterion, &mut report);
    report.finish(criterion);
}
