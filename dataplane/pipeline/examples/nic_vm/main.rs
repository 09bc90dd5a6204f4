//! Both sides of `scripts/nic-vm`: the data plane on a card with a clock, and the harness that sends it PTP events.
//!
//! ```text
//!   harness (host)                      emulator                      guest (virtual machine)
//!   Sync, Delay_Req ──► Unix datagram ──► igb, stamps receipt ──► rx ──► turn ──► tx ─┐
//!   checks  ◄────────── Unix datagram ◄── igb, stamps departure ◄─────────────────────┘
//!      ▲                                                    turn's stamps │
//!      └───────────────────────── JSON lines, serial port ◄───────────────┘
//! ```
//!
//! The guest runs the node's own stages `rx` and `tx` over its DPDK port; only the stage between them belongs to this
//! example. Run it by `scripts/nic-vm`; alone, the guest's half also drives a card of a real machine.

#![forbid(unsafe_code)]

mod checks;
mod datagram;
mod emulator;
mod guest;
mod harness;
mod monitor;
mod ptp;
mod turn;

use std::process::ExitCode;

/// Where every figure here comes from, as it is printed beside them.
pub(crate) const DEVICE: &str = "emulated igb in QEMU/TCG";

const USAGE: &str = "\
nic_vm guest FRAMES DEVICE...            turns FRAMES event messages around on each PCI device, e.g. 0000:01:00.0
nic_vm harness FOLDER FRAMES RUN...      sends them to the emulator whose sockets are in FOLDER; a RUN is
                                         `asks` (the driver asks the card for stamps) or `plain` (it cannot)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["guest", frames, devices @ ..] if !devices.is_empty() => {
            count(frames).and_then(|frames| guest::run(frames, devices).map_err(|error| error.to_string()))
        }
        ["harness", folder, frames, runs @ ..] if !runs.is_empty() => {
            count(frames).and_then(|frames| harness::run(folder.as_ref(), frames, runs))
        }
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn count(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(frames) if frames >= 2 => Ok(frames),
        _ => Err(format!("FRAMES is {text:?} and must be a number from 2 to 65535")),
    }
}
