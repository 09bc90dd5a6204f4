//! Starting the node clock, for the node and for its data plane.

use crate::chain::Chain;
use roko_pipeline::clock::{ClockPage, ClockWords};
use roko_ring::seqlock::page;
use roko_time::map::Settings;
use roko_time::{ClockDriver, NodeClock, TimeError};
use roko_wire::nano::ClockSource;
use std::time::Duration;

/// How often the clock's map is renewed.
const CLOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Starts the node clock from the host's, whose bound is what the operator declares.
pub fn start(chain: &Chain, bound_us: u32) -> Result<(NodeClock, ClockDriver, ClockPage), TimeError> {
    let settings = Settings {
        source: ClockSource::System,
        bound_ns_floor: u64::from(bound_us) * 1_000,
        bound_ns_max: u64::from(chain.genesis.limits.clock_error_bound_us_max) * 1_000,
        ..Settings::default()
    };
    // The driver publishes into its own page and, by this closure, into the data plane's.
    let (sender, first) = std::sync::mpsc::channel();
    let mut writer = None;
    let publish = move |map: &roko_wire::clock::ClockMap| {
        let writer = writer.get_or_insert_with(|| {
            let (writer, reader): (_, ClockPage) = page(ClockWords(*map));
            let _ = sender.send(reader);
            writer
        });
        writer.write(&ClockWords(*map));
    };
    let (clock, driver) = ClockDriver::start(settings, CLOCK_INTERVAL, false, publish)?;
    let clock_page = first.recv().map_err(|_| TimeError::NoRate)?;
    Ok((clock, driver, clock_page))
}
