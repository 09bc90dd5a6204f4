//! Starting the node clock from the host's.

use crate::chain::Chain;
use roko_time::map::Settings;
use roko_time::{ClockDriver, NodeClock, TimeError};
use roko_wire::nano::ClockSource;
use std::time::Duration;

/// How often the clock's map is renewed.
const CLOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Starts the node clock from the host's, whose bound is what the operator declares.
pub fn start(chain: &Chain, bound_us: u32) -> Result<(NodeClock, ClockDriver), TimeError> {
    let settings = Settings {
        source: ClockSource::System,
        bound_ns_floor: u64::from(bound_us) * 1_000,
        bound_ns_max: u64::from(chain.genesis.limits.clock_error_bound_us_max) * 1_000,
        ..Settings::default()
    };
    ClockDriver::start(settings, CLOCK_INTERVAL, false, |_| {})
}
