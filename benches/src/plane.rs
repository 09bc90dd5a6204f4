//! A validator's data plane for benches: its settings, without limits that bite, and a clock.

use crate::fixtures::{CHAIN, HOUR_NS, START};
use core::net::IpAddr;
use ed25519_zebra::{SigningKey, VerificationKey};
use roko_pipeline::assembly::{DataPlaneConfig, Depths};
use roko_pipeline::block_buffer::BlockRoom;
use roko_pipeline::clock::ClockPage;
use roko_pipeline::filter::{FilterConfig, RateLimit};
use roko_pipeline::open::PeerRates;
use roko_pipeline::order::OrderConfig;
use roko_pipeline::verify::VerifyConfig;
use roko_ring::seqlock::{PageWriter, page};
use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::rules::TxRules;
use roko_wire::{Hash32, ValidatorIndex};

/// A clock that starts at [`START`] and runs about as fast as the machine's.
#[must_use]
pub fn clock() -> (PageWriter<ClockMap>, ClockPage) {
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

/// The settings of validator 0 at `own`, of one lane, for peers at `known`.
#[must_use]
pub fn config(own: (IpAddr, u16), known: Vec<IpAddr>, peers_max: usize) -> DataPlaneConfig {
    let node_key = SigningKey::from([100; 32]);
    // No limit bites here: the bench measures the way in, not the limiter.
    let limit = RateLimit { frames_per_second: 100_000_000, burst_frames: 10_000_000 };
    DataPlaneConfig {
        filter: FilterConfig {
            ip: own.0,
            port: own.1,
            stranger: limit,
            known: limit,
            known_addresses: known,
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
        peers_max,
        links: Vec::new(),
        depths: Depths::default(),
        lanes: 1,
        port_clock: None,
        slow_path: false,
    }
}
