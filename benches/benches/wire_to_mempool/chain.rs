//! One validator and one client with the switch between them, over either port, on the thread that polls.

use core::net::{IpAddr, Ipv4Addr};
use roko_benches::fixtures::{HOUR_NS, START};
use roko_benches::plane;
use roko_dpdk::{Eal, MbufPool, PortConfig, ring_link, ring_port};
use roko_pipeline::assembly::{ControlEnds, DataPlane, DataPlaneConfig, assemble};
use roko_pipeline::client::ClientPort;
use roko_pipeline::idle::Idle;
use roko_pipeline::order::OrderCommand;
use roko_pipeline::peer::{Admission, KeyLimits, KeyName, KeySource, PeerIndex, PeerLink, Role};
use roko_pipeline::poll::{PollLoop, Stage};
use roko_pipeline::port::dpdk::{DpdkLink, DpdkPort, DpdkStamps};
use roko_pipeline::port::inprocess::{InProcessPool, InProcessPort, pair};
use roko_pipeline::port::{Port, RxPort, TxPort};
use roko_pipeline::session::{AeadKeys, SEAL_BYTES, Sealer};
use roko_pipeline::switch::Switch;
use roko_ring::seqlock::PageWriter;
use roko_ring::spsc::Gauge;
use roko_wire::TxId;
use roko_wire::clock::ClockMap;
use roko_wire::frame::{FRAME_HEADER_BYTES, PriorityClass};
use roko_wire::limits::TXS_PER_MESSAGE_MAX;
use roko_wire::message::write_submit;
use roko_wire::net::{Addresses, Mac};
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

fn config() -> DataPlaneConfig {
    let own = addresses(VALIDATOR_STATION, VALIDATOR_STATION);
    let known = vec![addresses(CLIENT_STATION, VALIDATOR_STATION).source_ip];
    plane::config((own.source_ip, own.source_port), known, 8)
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
    let (writer, clock) = plane::clock();
    let DataPlane { stages, control } =
        assemble(port, config(), vec![Box::new(OneClient)], clock).expect("the settings fit");
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
