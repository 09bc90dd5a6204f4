//! A network of validators and one load client over in-process ports, polled by the test itself.
// Each test binary uses a part, and a module of a test binary has no outside.
#![allow(dead_code, unreachable_pub)]

use core::net::{IpAddr, Ipv4Addr};
use ed25519_zebra::{SigningKey, VerificationKey};
use roko_pipeline::assembly::{ControlEnds, DataPlaneConfig, Depths, assemble};
use roko_pipeline::block_buffer::BlockRoom;
use roko_pipeline::client::ClientPort;
use roko_pipeline::clock::ClockPage;
use roko_pipeline::filter::{FilterConfig, RateLimit};
use roko_pipeline::keys::{InstalledKeys, KeyCommand};
use roko_pipeline::lanes::FanOut;
use roko_pipeline::open::PeerRates;
use roko_pipeline::order::OrderConfig;
use roko_pipeline::peer::{Admission, KeyLimits, KeyName, KeySource, PeerIndex, PeerLink, Role};
use roko_pipeline::poll::Stage;
use roko_pipeline::port::inprocess::{InProcessPool, InProcessPort, pair, pair_of_queues};
use roko_pipeline::port::{Port, RxPort, TxPort};
use roko_pipeline::session::AeadKeys;
use roko_pipeline::switch::Switch;
use roko_pipeline::verify::VerifyConfig;
use roko_ring::seqlock::{PageWriter, page};
use roko_wire::clock::ClockMap;
use roko_wire::codec::Sink;
use roko_wire::ethereum::{Envelope, EthereumTx, wire};
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::net::{Addresses, Mac};
use roko_wire::rules::TxRules;
use roko_wire::stamp::{Stamp, write_signed_batch};
use roko_wire::tx::NativeTx;
use roko_wire::{Address, ChainId, Hash32, NanoMoment, ValidatorIndex};

pub const CHAIN: ChainId = ChainId(4242);
pub const SEED: Hash32 = Hash32([7; 32]);
pub const START: NanoMoment = NanoMoment(1_800_000_000_000_000_000);
pub const HOUR_NS: u64 = 3_600_000_000_000;

/// The number of a station: validators from 0, then the client.
pub type Station = u8;

pub fn addresses(from: Station, to: Station) -> Addresses {
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

/// The session of generation `generation` from one station to another.
pub fn session(from: Station, to: Station, generation: u8) -> u64 {
    u64::from_be_bytes([0, 0, 0, 0, 1, from, to, generation])
}

pub fn keys(session: u64) -> AeadKeys {
    let mut key = [0x5a; 32];
    key[..8].copy_from_slice(&session.to_le_bytes());
    AeadKeys { key, iv: [session as u8; 12] }
}

pub fn link(from: Station, to: Station) -> PeerLink {
    link_of(from, to, 1)
}

pub fn link_of(from: Station, to: Station, generation: u8) -> PeerLink {
    let session = session(from, to, generation);
    PeerLink {
        addresses: addresses(from, to),
        session,
        core: 0,
        key_phase: 0,
        keys: keys(session),
        limits: KeyLimits::default(),
    }
}

/// Knows the sessions of all stations with one of them, by the names that [`session`] gives.
pub struct NamedSessions {
    pub this: Station,
    pub validators: Station,
}

impl NamedSessions {
    pub fn boxed(this: Station, validators: Station) -> Box<dyn KeySource> {
        Box::new(NamedSessions { this, validators })
    }
}

pub fn role(station: Station, validators: Station) -> Role {
    if station < validators { Role::Validator(ValidatorIndex(station.into())) } else { Role::Client }
}

impl KeySource for NamedSessions {
    fn admit(&mut self, name: KeyName) -> Option<Admission> {
        let KeyName { session, core: 0, phase: 0 } = name else { return None };
        let [0, 0, 0, 0, 1, from, to, generation] = session.to_be_bytes() else { return None };
        (to == self.this && from <= self.validators).then(|| Admission {
            peer: PeerIndex(from.into()),
            role: role(from, self.validators),
            generation: generation.into(),
            keys: keys(session),
        })
    }
}

pub fn node_key(station: Station) -> SigningKey {
    SigningKey::from([station + 100; 32])
}

/// A clock that starts at [`START`] and runs as fast as the machine's counter, roughly.
pub fn clock() -> (PageWriter<ClockMap>, ClockPage) {
    let began = std::time::Instant::now();
    let tsc_base = roko_os::tsc::tsc();
    std::thread::sleep(std::time::Duration::from_millis(5));
    let ticks = roko_os::tsc::tsc() - tsc_base;
    let nanos = began.elapsed().as_nanos();
    page(ClockMap {
        tsc_base,
        base: START,
        nanos_per_tick_q32: ((nanos << 32) / u128::from(ticks)) as u64,
        bound_ns: 1_000,
        drift_ppb: 1_000,
        bound_ns_max: 1_000_000,
        source: ClockSource::System,
        state: ClockState::Converged,
    })
}

pub fn now(clock: &ClockPage) -> NanoMoment {
    clock.read().moment(roko_os::tsc::tsc())
}

pub fn config(this: Station, validators: Station) -> DataPlaneConfig {
    let ingress = ValidatorIndex(this.into());
    let limit = RateLimit { frames_per_second: 1_000_000, burst_frames: 100_000 };
    let own = addresses(this, this);
    DataPlaneConfig {
        filter: FilterConfig {
            ip: own.source_ip,
            port: own.source_port,
            stranger: RateLimit { frames_per_second: 100, burst_frames: 5 },
            known: limit,
            known_addresses: (0..=validators).map(|peer| addresses(peer, this).source_ip).collect(),
        },
        verify: VerifyConfig {
            rules: TxRules { chain_id: CHAIN, window_ns_max: 24 * HOUR_NS, gas_max: 10_000_000 },
            ingress,
            signing_key: node_key(this),
            validators: (0..validators).map(|peer| VerificationKey::from(&node_key(peer))).collect(),
            stamp_flush_us: 200,
            messages_per_poll: 4,
            recent_txs: 1 << 14,
            salt: 7,
        },
        order: OrderConfig {
            mempool: roko_ring::mempool::Config::for_txs(8_192, 99),
            chain_id: CHAIN,
            ingress,
            signing_key: node_key(this),
            late_flush_us: 200,
            seed: SEED,
            block_buffers: 2,
            block_room: BlockRoom { txs: 2_048, body_bytes: 1 << 20 },
        },
        rates: PeerRates::for_rings(Depths::default().to_control, Depths::default().to_verify),
        peers_max: 8,
        links: (0..validators)
            .filter(|peer| *peer != this)
            .map(|peer| (PeerIndex(peer.into()), role(peer, validators), link(this, peer)))
            .collect(),
        depths: Depths::default(),
        lanes: 1,
        port_clock: None,
        slow_path: false,
    }
}

/// A validator on its own, joined to a bare port that the test drives.
pub struct Lone {
    pub stages: Vec<(&'static str, Box<dyn Stage>)>,
    pub control: ControlEnds<InProcessPort>,
    pub rx: <InProcessPort as Port>::Rx,
    pub tx: <InProcessPort as Port>::Tx,
    pub pool: InProcessPool,
    pub clock: ClockPage,
    _clock: PageWriter<ClockMap>,
}

impl Lone {
    /// Validator 0 of two; the test speaks for everyone else.
    pub fn new() -> Lone {
        Lone::with_lanes(1, 1)
    }

    /// The same, whose port has this many queues, for this many lanes.
    pub fn with_lanes(queues: usize, lanes: usize) -> Lone {
        let config = DataPlaneConfig { lanes, ..config(0, 2) };
        Lone::with_config(config, (0..queues).map(|_| NamedSessions::boxed(0, 2)).collect())
    }

    /// The same, whose keys come from the test through the ring that handshakes use.
    pub fn with_keys() -> (Lone, FanOut<KeyCommand>) {
        Lone::with_keys_and_lanes(1)
    }

    /// The same, with this many queues and lanes.
    pub fn with_keys_and_lanes(lanes: usize) -> (Lone, FanOut<KeyCommand>) {
        let (commands, keys) = InstalledKeys::for_queues(8, lanes);
        let sources = keys.into_iter().map(|keys| Box::new(keys) as Box<dyn KeySource>).collect();
        (Lone::with_config(DataPlaneConfig { lanes, ..config(0, 2) }, sources), commands)
    }

    /// The same, whose peers have these rates.
    pub fn with_rates(rates: PeerRates) -> Lone {
        Lone::with_config(DataPlaneConfig { rates, ..config(0, 2) }, vec![NamedSessions::boxed(0, 2)])
    }

    /// The same, of these settings, with a queue for each source of keys.
    pub fn with_config(config: DataPlaneConfig, sources: Vec<Box<dyn KeySource>>) -> Lone {
        let (writer, clock) = clock();
        let pool = InProcessPool::new(8_192);
        let pools = (InProcessPool::new(8_192), pool.clone());
        let (near, far) = pair_of_queues(1024, pools, (sources.len(), 1));
        let plane = assemble(near, config, sources, clock.clone()).expect("the settings fit");
        let (rx, tx, pool) = far.split();
        Lone { stages: plane.stages, control: plane.control, rx, tx, pool, clock, _clock: writer }
    }

    /// Polls every stage once and publishes all counters.
    pub fn turn(&mut self) -> bool {
        self.turn_those(|_, _| true)
    }

    /// The same, of the stages that are chosen by name and lane: the others' threads have lost their core.
    pub fn turn_those(&mut self, run: impl Fn(&str, Option<u8>) -> bool) -> bool {
        let mut busy = false;
        for (name, stage) in &mut self.stages {
            if !run(name, stage.metrics().lane()) {
                continue;
            }
            let mut cx = roko_pipeline::poll::PollContext { tsc: roko_os::tsc::tsc() };
            busy |= stage.poll(&mut cx).work > 0;
            stage.housekeeping(&mut cx);
        }
        busy
    }

    /// Polls until nothing is left to do.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            quiet = if self.turn() { 0 } else { quiet + 1 };
            std::thread::sleep(std::time::Duration::from_micros(150));
        }
    }

    /// Sends raw frames, as they are.
    pub fn send_raw(&mut self, frames: &[Vec<u8>]) {
        use roko_pipeline::port::{FrameBuf, FramePool};
        for frame in frames {
            let mut buf = self.pool.alloc().expect("a frame is free");
            buf.set_len(frame.len());
            buf.data_mut().copy_from_slice(frame);
            let mut burst = roko_pipeline::port::Burst::new();
            burst.push(buf);
            assert_eq!(self.tx.tx_burst(&mut burst), 1, "the ring has room");
        }
    }

    pub fn count(&self, stage: &str, label: &str) -> u64 {
        let counts: Vec<u64> = self.count_by_lane(stage, label);
        assert!(!counts.is_empty(), "the stage exists");
        counts.iter().sum()
    }

    pub fn count_by_lane(&self, stage: &str, label: &str) -> Vec<u64> {
        let of_stage = self.control.metrics.iter().filter(|metrics| metrics.stage() == stage);
        of_stage.map(|metrics| metrics.value(label)).collect()
    }
}

/// The bytes of a sealed frame.
pub fn sealed(sealer: &mut roko_pipeline::session::Sealer, addresses: &Addresses, message: &[u8]) -> Vec<u8> {
    use roko_pipeline::session::SEAL_BYTES;
    let start = roko_wire::net::headers_bytes(&addresses.source_ip);
    let mut frame = vec![0; start + message.len() + SEAL_BYTES];
    roko_wire::net::write_headers(addresses, message.len() + SEAL_BYTES, &mut frame).expect("it fits");
    frame[start + roko_wire::frame::FRAME_HEADER_BYTES..][..message.len()].copy_from_slice(message);
    sealer.seal(roko_wire::frame::PriorityClass::Client, &mut frame[start..]).expect("it fits");
    frame
}

pub fn sealer(link: &PeerLink) -> roko_pipeline::session::Sealer {
    roko_pipeline::session::Sealer::new(&link.keys, link.session, link.core, link.key_phase)
}

/// A transfer that is valid around [`START`].
pub fn transfer(nonce: u64) -> NativeTx<'static> {
    NativeTx {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee: 1_000_000_000,
        max_priority_fee: 1,
        valid_from: START.saturating_sub(HOUR_NS),
        valid_until: START.saturating_add(HOUR_NS),
        value: ruint::aliases::U256::from(1),
        to: Some(Address([9; 20])),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

pub fn user(number: u32) -> SigningKey {
    let mut seed = [0x33; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    SigningKey::from(seed)
}

/// Signed transfers: `users` senders, nonces `nonces` each, sender by sender.
pub fn transfers(users: core::ops::Range<u32>, nonces: core::ops::Range<u64>) -> Vec<Vec<u8>> {
    users
        .flat_map(|number| {
            let key = user(number);
            nonces.clone().map(move |nonce| transfer(nonce).sign_ed25519(&key))
        })
        .collect()
}

/// An Ethereum transfer that the rules let through.
pub fn ethereum_transfer(envelope: Envelope, nonce: u64) -> EthereumTx<'static> {
    EthereumTx {
        envelope,
        chain_id: Some(CHAIN),
        nonce,
        gas_limit: 21_000,
        max_fee: 1_000_000_000,
        max_priority_fee: 1_000_000_000,
        value: ruint::aliases::U256::from(1),
        to: Some(Address([9; 20])),
        input: &[],
        access_list: &[],
        access_items: 0,
        access_keys: 0,
    }
}

/// Wire bytes of signed Ethereum transfers of every envelope: as [`transfers`].
pub fn ethereum_transfers(users: core::ops::Range<u32>, nonces: core::ops::Range<u64>) -> Vec<Vec<u8>> {
    const ENVELOPES: [Envelope; 3] = [Envelope::Legacy, Envelope::AccessList, Envelope::DynamicFee];
    users
        .flat_map(|number| {
            let key = ethereum_user(number);
            let signed = move |nonce| ethereum_transfer(ENVELOPES[(nonce % 3) as usize], nonce).sign(&key);
            nonces.clone().map(move |nonce| wire(&signed(nonce)))
        })
        .collect()
}

pub fn ethereum_user(number: u32) -> k256::ecdsa::SigningKey {
    let mut secret = [0x33; 32];
    secret[..4].copy_from_slice(&number.to_le_bytes());
    k256::ecdsa::SigningKey::from_slice(&secret).expect("a number below the group's order")
}

pub fn submit_message(wires: &[Vec<u8>]) -> Vec<u8> {
    let wires: Vec<&[u8]> = wires.iter().map(Vec::as_slice).collect();
    let mut out = Vec::new();
    roko_wire::message::write_submit(&wires, &mut out);
    out
}

/// A batch message that validator 1 stamped, after `change`.
pub fn batch(wires: &[Vec<u8>], signer: u8) -> Vec<u8> {
    let stamp = Stamp {
        time: START.saturating_add(1_000),
        bound_ns: 10,
        source: ClockSource::Ptp.into(),
        ingress: ValidatorIndex(1),
    };
    let txs: Vec<(NanoMoment, &[u8])> = wires.iter().map(|wire| (stamp.time, wire.as_slice())).collect();
    let mut message = Vec::new();
    message.put_u8(2);
    write_signed_batch(&node_key(signer), CHAIN, &stamp, &txs, &mut message);
    message
}

/// Validators, a client and the switch between them.
pub struct Net {
    pub stages: Vec<Box<dyn Stage>>,
    pub controls: Vec<ControlEnds<InProcessPort>>,
    pub client: ClientPort<InProcessPort>,
    pub clock: ClockPage,
    _clock: PageWriter<ClockMap>,
}

impl Net {
    pub fn new(validators: Station) -> Net {
        Net::with_lanes(validators, 1)
    }

    /// The same, whose validators have this many lanes, and as many queues.
    pub fn with_lanes(validators: Station, lanes: usize) -> Net {
        let (writer, clock) = clock();
        let (mut stages, mut controls, mut ends) = (Vec::<Box<dyn Stage>>::new(), Vec::new(), Vec::new());
        for this in 0..validators {
            let pools = (InProcessPool::new(8_192), InProcessPool::new(1));
            let (near, far) = pair_of_queues(1024, pools, (lanes, 1));
            let sources = (0..lanes).map(|_| NamedSessions::boxed(this, validators)).collect();
            let config = DataPlaneConfig { lanes, ..config(this, validators) };
            let plane = assemble(near, config, sources, clock.clone()).expect("the settings fit");
            stages.extend(plane.stages.into_iter().map(|(_, stage)| stage));
            controls.push(plane.control);
            ends.push(far);
        }
        let (near, far) = pair(1024, (InProcessPool::new(4_096), InProcessPool::new(1)));
        ends.push(far);
        let links: Vec<PeerLink> = (0..validators).map(|to| link(validators, to)).collect();
        let client = ClientPort::new(near, &links);
        let halves = ends.into_iter().map(|end| {
            let (rx, tx, _) = end.split();
            (rx, tx)
        });
        let mut switch = Switch::new(halves.collect());
        for station in 0..=validators {
            switch.learn(addresses(station, 0).source_mac, station.into());
        }
        stages.push(Box::new(switch));
        Net { stages, controls, client, clock, _clock: writer }
    }
}

/// Bytes that a receiving half has, one frame each.
pub fn received<R: RxPort>(rx: &mut R) -> Vec<Vec<u8>> {
    use roko_pipeline::port::FrameBuf;
    let mut burst = roko_pipeline::port::Burst::new();
    let mut frames = Vec::new();
    while rx.rx_burst(&mut burst) > 0 {
        frames.extend(burst.drain(..).map(|buf| buf.data().to_vec()));
    }
    frames
}
