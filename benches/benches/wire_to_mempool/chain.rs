//! One validator and one client with the switch between them, over either port, on the thread that polls.

use core::net::{IpAddr, Ipv4Addr};
use ed25519_zebra::{SigningKey, VerificationKey};
use roko_benches::fixtures::{CHAIN, HOUR_NS, START};
use roko_dpdk::{Eal, MbufPool, PortConfig, ring_link, ring_port};
use roko_pipeline::assembly::{ControlEnds, DataPlane, DataPlaneConfig, Depths, assemble};
use roko_pipeline::block_buffer::BlockRoom;
use roko_pipeline::client::ClientPort;
use roko_pipeline::clock::ClockPage;
use roko_pipeline::filter::{FilterConfig, RateLimit};
use roko_pipeline::idle::Idle;
use roko_pipeline::open::PeerRates;
use roko_pipeline::order::{OrderCommand, OrderConfig};
use roko_pipeline::peer::{Admission, KeyLimits, KeyName, KeySource, PeerIndex, PeerLink, Role};
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::dpdk::{DpdkLink, DpdkPort, DpdkStamps};
use roko_pipeline::port::inprocess::{InProcessPool, InProcessPort, pair};
use roko_pipeline::port::{Port, RxPort, TxPort};
use roko_pipeline::session::{AeadKeys, SEAL_BYTES, Sealer};
use roko_pipeline::switch::Switch;
use roko_pipeline::verify::VerifyConfig;
use roko_ring::seqlock::{PageWriter, page};
use roko_ring::spsc::Gauge;
use roko_wire::clock::ClockMap;
use roko_wire::frame::{FRAME_HEADER_BYTES, PriorityClass};
use roko_wire::limits::TXS_PER_MESSAGE_MAX;
use roko_wire::message::write_submit;
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::net::{Addresses, Mac};
use roko_wire::rules::TxRules;
use roko_wire::{Hash32, TxId, ValidatorIndex};
use std::sync::Arc;

/// Transactions of a frame.
pub(crate) const FRAME_TXS: usize = TXS_PER_MESSAGE_MAX;
/// The session from the client.
pub(crate) const CLIENT: u64 = 0x0100_0001;
const VALIDATOR_STATION: u8 = 0;
const CLIENT_STATION: u8 = 1;

/// The chain, its clock and the control plane's ends.
pub(crate) struct Chain<P: Port, C: Port> {
    poll: PollLoop,
    control: ControlEnds<P>,
    client: ClientPort<C>,
    commands: Gauge,
    pooled: Vec<TxId>,
    _clock: PageWriter<ClockMap>,
}

impl<P: Port, C: Port> Chain<P, C> {
    /// Sends a frame of transactions.
    pub(crate) fn submit(&mut self, wires: &[Vec<u8>]) {
        let mut refs = [&[][..]; FRAME_TXS];
        for (place, wire) in refs.iter_mut().zip(wires) {
            *place = wire;
        }
        self.client.submit(0, &refs[..wires.len()]).expect("the port has room");
    }

    /// Polls everything once; returns how many transactions were pooled.
    pub(crate) fn turn(&mut self) -> usize {
        self.poll.turn();
        let before = self.pooled.len();
        self.control.seen.pop_each(usize::MAX, |seen| self.pooled.push(seen.id));
        self.pooled.len() - before
    }

    /// Makes everything pooled final.
    pub(crate) fn empty(&mut self) {
        let valid_until = START.saturating_add(HOUR_NS);
        for id in self.pooled.drain(..) {
            let pushed = self.control.order.push(OrderCommand::FinalizeId { id, valid_until, now: START });
            assert!(pushed.is_ok(), "the ring holds as many commands as the pool transactions");
        }
        while self.commands.depth() > 0 {
            self.poll.turn();
        }
    }
}

/// The keys of a session.
pub(crate) fn keys_of(session: u64) -> AeadKeys {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&session.to_le_bytes());
    AeadKeys { key, iv: [session as u8; 12] }
}

/// What a frame of these transactions holds behind its network headers, sealed with sequence number 0.
pub(crate) fn sealed_frame(wires: &[Vec<u8>]) -> Vec<u8> {
    let refs: Vec<&[u8]> = wires.iter().map(Vec::as_slice).collect();
    let mut message = Vec::new();
    write_submit(&refs, &mut message);
    let mut payload = vec![0; message.len() + SEAL_BYTES];
    payload[FRAME_HEADER_BYTES..][..message.len()].copy_from_slice(&message);
    let mut sealer = Sealer::new(&keys_of(CLIENT), CLIENT, 0, 0);
    sealer.seal(PriorityClass::Client, &mut payload).expect("it has room");
    payload
}

struct OneClient;

impl KeySource for OneClient {
    fn admit(&mut self, name: KeyName) -> Option<Admission> {
        (name == KeyName { session: CLIENT, core: 0, phase: 0 }).then(|| Admission {
            peer: PeerIndex(CLIENT_STATION.into()),
            role: Role::Client,
            generation: 1,
            keys: keys_of(CLIENT),
        })
    }
}

fn addresses(from: u8, to: u8) -> Addresses {
    let mac = |station| Mac([2, 0, 0, 0, 0, station]);
    let ip = |station| IpAddr::V4(Ipv4Addr::new(10, 0, 0, station + 1));
    Addresses {
        source_mac: mac(from),
        destination_mac: mac(to),
        source_ip: ip(from),
        destination_ip: ip(to),
        source_port: 4000,
        destination_port: 4000,
    }
}

fn client_link() -> PeerLink {
    let addresses = addresses(CLIENT_STATION, VALIDATOR_STATION);
    let (keys, limits) = (keys_of(CLIENT), KeyLimits::default());
    PeerLink { addresses, session: CLIENT, core: 0, key_phase: 0, keys, limits }
}

/// A clock that starts at [`START`] and runs about as fast as the machine's.
fn clock() -> (PageWriter<ClockMap>, ClockPage) {
    let (began, tsc_base) = (std::time::Instant::now(), roko_os::tsc::tsc());
    std::thread::sleep(std::time::Duration::from_millis(5));
    let ticks = roko_os::tsc::tsc() - tsc_base;
    let nanos_per_tick_q32 = ((began.elapsed().as_nanos() << 32) / u128::from(ticks)) as u64;
    page(ClockMap {
        tsc_base,
        base: START,
        nanos_per_tick_q32,
        bound_ns: 1_000,
        drift_ppb: 1_000,
        bound_ns_max: 1_000_000,
        source: ClockSource::System,
        state: ClockState::Converged,
    })
}

fn config() -> DataPlaneConfig {
    let node_key = SigningKey::from([100; 32]);
    // No limit bites here: the bench measures the way in, not the limiter.
    let limit = RateLimit { frames_per_second: 100_000_000, burst_frames: 10_000_000 };
    DataPlaneConfig {
        filter: FilterConfig {
            ip: addresses(VALIDATOR_STATION, VALIDATOR_STATION).source_ip,
            port: 4000,
            stranger: limit,
            known: limit,
            known_addresses: vec![addresses(CLIENT_STATION, VALIDATOR_STATION).source_ip],
        },
        verify: VerifyConfig {
            rules: TxRules { chain_id: CHAIN, window_ns_max: 24 * HOUR_NS, gas_max: 10_000_000 },
            ingress: ValidatorIndex(0),
            signing_key: node_key,
            validators: vec![VerificationKey::from(&node_key)],
            stamp_flush_us: 200,
            salt: 7,
            messages_per_poll: 4,
            recent_txs: 1 << 14,
        },
        order: OrderConfig {
            mempool: roko_ring::mempool::Config {
                prefault: true,
                ..roko_ring::mempool::Config::for_txs(8_192, 99)
            },
            chain_id: CHAIN,
            ingress: ValidatorIndex(0),
            signing_key: node_key,
            late_flush_us: 200,
            seed: Hash32([7; 32]),
            block_buffers: 2,
            block_room: BlockRoom { txs: 2_048, body_bytes: 1 << 20 },
        },
        rates: PeerRates::UNLIMITED,
        peers_max: 8,
        links: Vec::new(),
        depths: Depths::default(),
        port_clock: None,
        slow_path: false,
    }
}

fn join<P: Port, C: Port, R: RxPort, T: TxPort<Buf = R::Buf>>(
    port: P,
    client: ClientPort<C>,
    switch_ends: Vec<(R, T)>,
) -> Chain<P, C>
where
    P::Pool: Sync,
    Switch<R, T>: Stage + 'static,
{
    let (writer, clock) = clock();
    let DataPlane { stages, control } =
        assemble(port, config(), Box::new(OneClient), clock).expect("the settings fit");
    let mut switch = Switch::new(switch_ends);
    for station in [VALIDATOR_STATION, CLIENT_STATION] {
        switch.learn(addresses(station, 0).source_mac, station.into());
    }
    let mut all: Vec<Box<dyn Stage>> = vec![Box::new(switch)];
    all.extend(stages.into_iter().map(|(_, stage)| stage));
    let commands = control.order.depth_gauge();
    let poll = PollLoop::new(all, Idle::Spin, Arc::default());
    Chain { poll, control, client, commands, pooled: Vec::with_capacity(8_192), _clock: writer }
}

/// The chain over in-process ports.
pub(crate) fn in_process_chain() -> Chain<InProcessPort, InProcessPort> {
    let (near, far) = pair(1024, (InProcessPool::new(8_192), InProcessPool::new(1)));
    let (client, far_client) = pair(1024, (InProcessPool::new(4_096), InProcessPool::new(1)));
    let ends = [far, far_client].into_iter().map(|end| {
        let (rx, tx, _) = end.split();
        (rx, tx)
    });
    join(near, ClientPort::new(client, &[client_link()]), ends.collect())
}

/// The chain over net_ring and a bare ring link to the client; `name` tells two of them apart.
pub(crate) fn dpdk_chain(eal: &Eal, pool: &MbufPool, name: &str) -> Chain<DpdkPort, DpdkLink> {
    let (mut port, far) = ring_port(eal, name, 1024).expect("a port");
    let mut queues = port.start(&PortConfig::default(), pool).expect("it starts");
    let (rx, tx) = (queues.rx.remove(0), queues.tx.remove(0));
    let port = DpdkPort::new(rx, tx, pool.clone(), "net_ring", DpdkStamps::None);
    let (near_client, far_client) = ring_link(eal, &format!("c{name}"), 1024).expect("a link");
    let client = ClientPort::new(DpdkLink::new(near_client, pool.clone()), &[client_link()]);
    join(port, client, vec![(far.rx, far.tx), (far_client.rx, far_client.tx)])
}
