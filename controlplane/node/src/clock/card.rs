//! A card's clock through DPDK, and what of a started port stamps.

use super::stamps::{ClockAt, StampPlan};
use super::{PortClock, open};
use roko_dpdk::{Eal, Port, TickClock, TimestampField, Timesync, TxTimestamps};
use roko_pipeline::port::dpdk::DpdkStamps;
use roko_time::phc::{HostRealtime, Phc, PhcError, Readings, joint};
use roko_time::port_map::PortSettings;
use roko_wire::port_clock::PortUnit;
use std::path::Path;

/// The clock of a card that DPDK drives, by its timesync calls.
pub struct CardClock(Timesync);

impl CardClock {
    /// Over the enabled clock of a started port.
    #[must_use]
    pub const fn new(timesync: Timesync) -> CardClock {
        CardClock(timesync)
    }
}

impl Phc for CardClock {
    fn unit(&self) -> PortUnit {
        PortUnit::Nanoseconds
    }
    fn name(&self) -> String {
        "the card's clock".to_owned()
    }
    fn read(&mut self) -> Result<Readings, PhcError> {
        joint(|| {
            let nanoseconds = self.0.read_ns().map_err(|error| PhcError::Port(error.to_string()))?;
            u64::try_from(nanoseconds)
                .map_err(|_| PhcError::Port(format!("it shows {nanoseconds} ns, before its epoch")))
        })
    }
}

/// The free-running clock of a card.
pub struct CardTicks(TickClock);

impl Phc for CardTicks {
    fn unit(&self) -> PortUnit {
        PortUnit::Ticks
    }
    fn name(&self) -> String {
        "the card's ticks".to_owned()
    }
    fn read(&mut self) -> Result<Readings, PhcError> {
        joint(|| self.0.read().map_err(|error| PhcError::Port(error.to_string())))
    }
}

/// What a started port stamps with.
pub struct CardStamps {
    /// Where receive times are.
    pub stamps: DpdkStamps,
    /// The clock that they are by.
    pub clock: Option<PortClock>,
    /// What stamps departures.
    pub departures: Option<TxTimestamps>,
}

/// Opens what `plan` says, on a port that was started with the time field if the plan wants it. What a driver turns out not to
/// have is left out, and said on standard error.
///
/// # Errors
/// When a clock is there and refuses, in words.
pub fn stamps(plan: StampPlan, eal: &Eal, port: &Port, phc: Option<&Path>) -> Result<CardStamps, String> {
    let say = |error: roko_dpdk::Error| error.to_string();
    let none = |stamps| CardStamps { stamps, clock: None, departures: None };
    let boxed = |clock: Box<dyn Phc>| {
        let settings = PortSettings::card(clock.unit());
        Some((clock, settings))
    };
    let (unit, at) = match plan {
        StampPlan::Poll => return Ok(none(DpdkStamps::None)),
        StampPlan::Kernel => {
            let field = TimestampField::register(eal).map_err(say)?;
            let clock: PortClock = (Box::new(HostRealtime), PortSettings::kernel());
            return Ok(CardStamps { clock: Some(clock), ..none(DpdkStamps::Kernel(field)) });
        }
        StampPlan::PtpFramesIfAny => {
            let Some(timesync) = port.timesync().map_err(say)? else { return Ok(none(DpdkStamps::None)) };
            let departures = Some(timesync.tx_timestamps());
            let clock = boxed(Box::new(CardClock::new(timesync)));
            return Ok(CardStamps { stamps: DpdkStamps::PtpFrames, clock, departures });
        }
        StampPlan::EveryFrame(unit, at) => (unit, at),
    };
    let every = DpdkStamps::EveryFrame(TimestampField::register(eal).map_err(say)?, unit);
    let (clock, departures) = match at {
        ClockAt::Timesync => match port.timesync().map_err(say)? {
            Some(timesync) => {
                let departures = timesync.tx_timestamps();
                (boxed(Box::new(CardClock::new(timesync))), Some(departures))
            }
            None => (None, None),
        },
        ClockAt::Ticks => {
            (port.tick_clock().map_err(say)?.and_then(|ticks| boxed(Box::new(CardTicks(ticks)))), None)
        }
        ClockAt::Phc => {
            let path = phc.ok_or("port.phc is missing")?;
            (boxed(open(path).map_err(|error| format!("port.phc: {error}"))?), None)
        }
    };
    if clock.is_none() {
        eprintln!("the card stamps frames by a clock that cannot be read: frames are stamped at the poll");
        return Ok(none(DpdkStamps::None));
    }
    Ok(CardStamps { stamps: every, clock, departures })
}
