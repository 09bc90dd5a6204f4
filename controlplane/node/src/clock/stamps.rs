//! Which receive times a DPDK port is asked for. Pure: from the driver's name, what it can do, and the configuration.
//!
//! DPDK says that a driver fills the time field and not what it counts, so the drivers whose unit is known are listed
//! here. A driver that is not is stamped at the poll: a time of unknown unit is worse than none.

use crate::config::PortStamps;
use roko_wire::port_clock::PortUnit;

/// Where the clock is read that a port stamps with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockAt {
    /// The driver's timesync calls.
    Timesync,
    /// The driver's tick counter (`rte_eth_read_clock`).
    Ticks,
    /// The kernel's PTP clock of the same card (`port.phc`).
    Phc,
}

/// What a port is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampPlan {
    /// The card stamps every frame in this unit.
    EveryFrame(PortUnit, ClockAt),
    /// The kernel stamps every frame.
    Kernel,
    /// The card stamps PTP's frames, if it has a clock at all.
    PtpFramesIfAny,
    /// Nothing.
    Poll,
}

impl StampPlan {
    /// Whether the time field is asked for at the port's start.
    #[must_use]
    pub const fn wants_field(self) -> bool {
        matches!(self, StampPlan::EveryFrame(..) | StampPlan::Kernel)
    }
}

/// The plan for a port of `driver`, which can fill the time field or not; `has_phc` says that `port.phc` is given.
#[must_use]
pub fn plan(stamps: PortStamps, driver: &str, has_field: bool, has_phc: bool) -> StampPlan {
    use PortUnit::{Nanoseconds, Ticks};
    if stamps == PortStamps::Poll {
        return StampPlan::Poll;
    }
    // `net_cn9k` and `net_cn10k` are one family.
    let family = if driver.starts_with("net_cn") { "net_cnxk" } else { driver };
    match (has_field, family) {
        (true, "net_af_packet") => StampPlan::Kernel,
        (true, "mlx5_pci" | "mlx5_eth" | "mlx5_auxiliary") if has_phc => {
            StampPlan::EveryFrame(Nanoseconds, ClockAt::Phc)
        }
        (true, "mlx5_pci" | "mlx5_eth" | "mlx5_auxiliary") => StampPlan::EveryFrame(Ticks, ClockAt::Ticks),
        (true, "net_ice" | "net_cnxk" | "net_dpaa2" | "net_iavf" | "net_idpf") if has_phc => {
            StampPlan::EveryFrame(Nanoseconds, ClockAt::Phc)
        }
        // A virtual function has no clock of its own to read: without `port.phc` its stamps cannot be placed.
        (true, "net_ice" | "net_cnxk" | "net_dpaa2") => StampPlan::EveryFrame(Nanoseconds, ClockAt::Timesync),
        _ => StampPlan::PtpFramesIfAny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_drivers_stamp_in_their_unit_and_unknown_ones_not_at_all() {
        let auto = |driver, has_field, has_phc| plan(PortStamps::Auto, driver, has_field, has_phc);
        let card = StampPlan::EveryFrame;
        assert_eq!(auto("net_ice", true, false), card(PortUnit::Nanoseconds, ClockAt::Timesync));
        assert_eq!(auto("net_cn10k", true, false), card(PortUnit::Nanoseconds, ClockAt::Timesync));
        assert_eq!(auto("mlx5_pci", true, false), card(PortUnit::Ticks, ClockAt::Ticks));
        assert_eq!(auto("mlx5_pci", true, true), card(PortUnit::Nanoseconds, ClockAt::Phc));
        assert_eq!(auto("net_iavf", true, true), card(PortUnit::Nanoseconds, ClockAt::Phc));
        assert_eq!(auto("net_af_packet", true, false), StampPlan::Kernel);
        for (driver, has_field) in
            [("net_iavf", true), ("net_future", true), ("net_ice", false), ("net_e1000_igb", false)]
        {
            assert_eq!(auto(driver, has_field, false), StampPlan::PtpFramesIfAny, "{driver}");
        }
        assert_eq!(plan(PortStamps::Poll, "net_ice", true, false), StampPlan::Poll);
        assert!(
            auto("net_ice", true, false).wants_field() && auto("net_af_packet", true, false).wants_field()
        );
        assert!(!StampPlan::PtpFramesIfAny.wants_field() && !StampPlan::Poll.wants_field());
    }
}
