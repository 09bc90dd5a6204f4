//! Starting the node clock: from the host's, or from a PTP hardware clock; and what the port stamps with.

#[cfg(feature = "dpdk")]
pub mod card;
pub mod stamps;

use crate::chain::Chain;
use crate::config::{ClockSection, PhcReference, PhcTimescale, TimeSource};
use roko_os::OsError;
use roko_os::ptp::PtpDevice;
use roko_time::map::Settings;
use roko_time::phc::{DevPtp, Phc};
use roko_time::port_map::PortSettings;
use roko_time::{ClockDriver, NodeClock, Source, Sources, TimeError};
use roko_wire::nano::ClockSource;
use std::path::Path;
use std::time::Duration;

/// How often the clock's map is renewed.
const CLOCK_INTERVAL: Duration = Duration::from_millis(100);
/// TAI less the chain's time: fixed in the protocol (`roko_wire::nano`).
const TAI_AHEAD_NS: u64 = 37_000_000_000;

/// The clock that a port stamps with, and how it is followed.
pub type PortClock = (Box<dyn Phc>, PortSettings);

/// Why there is no clock.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The configured PTP clock.
    #[error("clock.source: {0}")]
    Source(#[from] OsError),
    /// The clock itself.
    #[error(transparent)]
    Time(#[from] TimeError),
}

/// Starts the node clock from the host's, whose bound is what the operator declares.
///
/// # Errors
/// When the CPU's counter is not fit for a clock.
pub fn start(chain: &Chain, bound_us: u32) -> Result<(NodeClock, ClockDriver), TimeError> {
    let settings = host(chain, bound_us);
    ClockDriver::start(Sources::host(), settings, CLOCK_INTERVAL, false, |_| {})
}

/// Starts the node clock from the configured source, and maps the port's clock if it has one.
///
/// # Errors
/// When the source cannot be opened or read, or the CPU's counter is not fit for a clock.
pub fn start_configured(
    chain: &Chain,
    config: &ClockSection,
    port: Option<PortClock>,
) -> Result<(NodeClock, ClockDriver), ClockError> {
    let (node, settings) = match &config.source {
        TimeSource::Host => (Source::Host, host(chain, config.untraceable_bound_us)),
        TimeSource::Phc(path) => {
            let source = match config.phc_reference {
                PhcReference::Ptp => ClockSource::Ptp,
                PhcReference::Gnss => ClockSource::Gnss,
            };
            let ahead_ns = match config.phc_timescale {
                PhcTimescale::Tai => TAI_AHEAD_NS,
                PhcTimescale::Utc => 0,
            };
            let most = bound_ns_max(chain);
            let settings = Settings::phc(source, config.phc_bound_ns.into(), most, config.holdover_ppb);
            (Source::Phc { clock: open(path)?, ahead_ns }, settings)
        }
    };
    Ok(ClockDriver::start(Sources { node, port }, settings, CLOCK_INTERVAL, false, |_| {})?)
}

/// A PTP clock of the kernel's.
///
/// # Errors
/// When there is none at `path`.
pub fn open(path: &Path) -> Result<Box<dyn Phc>, OsError> {
    Ok(Box::new(DevPtp::new(PtpDevice::open(path)?)))
}

fn bound_ns_max(chain: &Chain) -> u64 {
    u64::from(chain.genesis.limits.clock_error_bound_us_max) * 1_000
}

fn host(chain: &Chain, bound_us: u32) -> Settings {
    Settings {
        source: ClockSource::System,
        bound_ns_floor: u64::from(bound_us) * 1_000,
        bound_ns_max: bound_ns_max(chain),
        ..Settings::default()
    }
}

/// A clock's source, for people.
#[must_use]
pub const fn source_name(source: ClockSource) -> &'static str {
    match source {
        ClockSource::Gnss => "GNSS",
        ClockSource::Ptp => "PTP",
        ClockSource::Peers => "peers",
        ClockSource::Holdover => "holdover",
        ClockSource::System => "host, untraceable",
    }
}
