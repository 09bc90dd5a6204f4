//! What time costs: a reading of the node's clock beside the kernel's through the vDSO, and the way of a card's stamp to its
//! moment.
//!
//! Floor: a reading of the node's clock takes at most three times as long as `clock_gettime`. It is slower, because it tells bound
//! and health too, orders the counter on both sides, and looks whether the map was replaced meanwhile.

use roko_benches::{Comparison, Report};
use roko_ring::seqlock::page;
use roko_time::map::Settings;
use roko_time::{ClockDriver, Sources};
use roko_wire::nano::ClockState;
use roko_wire::port_clock::{PortMap, PortTime, PortUnit};
use std::time::Duration;

/// Readings in an iteration: enough that the loop around them does not show.
const READINGS: u64 = 64;

fn reading(criterion: &mut criterion::Criterion, report: &mut Report) {
    let started =
        ClockDriver::start(Sources::host(), Settings::default(), Duration::from_millis(100), true, |_| {});
    let (clock, _driver) = started.expect("this host has a clock");
    Comparison::new("clock_read/source=host", READINGS)
        .call("roko_node_clock", || {
            for _ in 0..READINGS {
                core::hint::black_box(clock.now());
            }
        })
        .call("clock_gettime_realtime", || {
            for _ in 0..READINGS {
                core::hint::black_box(roko_os::clock::realtime_ns());
            }
        })
        .floor_ratio(3.0)
        .call("rdtscp_lfence", || {
            for _ in 0..READINGS {
                core::hint::black_box(roko_os::tsc::tsc_ordered());
            }
        })
        .run(criterion, report);
    let map = PortMap {
        tsc_base: roko_os::tsc::tsc(),
        tsc_per_count_q32: 3 << 32,
        tsc_per_count_q32_before: 3 << 32,
        bound_ticks: 100,
        drift_ppb: 1_000,
        bound_ticks_max: u64::MAX,
        state: ClockState::Converged,
        ..PortMap::none(PortUnit::Nanoseconds)
    };
    let (_writer, port) = page(map);
    let node = clock.page();
    Comparison::new("stamp_map/frames=64", READINGS)
        .call("roko_port_and_node_map", || {
            // As rx does: the pages once a burst, the maps once a frame.
            let (port, node) = (port.read(), node.read());
            for count in 0..READINGS {
                let stamp = core::hint::black_box(PortTime::Nanoseconds(count * 1_000));
                let at = port.reading(stamp).expect("the map is good");
                core::hint::black_box(node.reading(at.tsc));
            }
        })
        .call("clock_gettime_realtime", || {
            for _ in 0..READINGS {
                core::hint::black_box(roko_os::clock::realtime_ns());
            }
        })
        .run(criterion, report);
}

fn main() {
    let mut report = Report::new("clock", "none; one core");
    let mut criterion = Report::criterion();
    reading(&mut criterion, &mut report);
    report.finish(criterion);
}
