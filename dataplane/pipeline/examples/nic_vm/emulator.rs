//! What QEMU's igb does unlike the card that it stands for, put right from outside the guest, over QEMU's `qtest` socket.
//!
//! The guest's program and driver know nothing of it. QEMU 10.0, `hw/net/igb_core.c`:
//! * A received frame's stamp is kept until `RXSATRH` is read. The card gives it up at `RXSTMPH` already (Intel 82576
//!   datasheet, 8.16.3 ff.), which is what drivers read. So it is read here after every frame.
//! * Only event messages whose first byte equals `TSYNCRXCFG`'s message type are stamped, Sync to begin with. DPDK's
//!   driver never writes that register, so the harness does where it sends another message.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const RXSATRH: u64 = 0xb630;
const TSYNCRXCFG: u64 = 0x5f50;
/// `TSYNCRXCFG`'s message type: its second byte.
const MESSAGE_TYPE_SHIFT: u32 = 8;

/// QEMU's `qtest` socket: reads and writes what the guest's CPU could.
pub(crate) struct Emulator {
    stream: BufReader<UnixStream>,
}

impl Emulator {
    pub(crate) fn connect(socket: &Path) -> Result<Emulator, String> {
        let stream = UnixStream::connect(socket)
            .and_then(|stream| stream.set_read_timeout(Some(Duration::from_secs(10))).map(|()| stream))
            .map_err(|error| format!("the emulator's socket {}: {error}", socket.display()))?;
        Ok(Emulator { stream: BufReader::new(stream) })
    }

    /// Frees the stamp of the card whose registers begin at `registers`.
    pub(crate) fn free_rx_stamp(&mut self, registers: u64) -> Result<(), String> {
        self.command(&format!("readl {:#x}", registers + RXSATRH))
    }

    /// Has the card stamp messages of this `messageType`.
    pub(crate) fn stamp_message(&mut self, registers: u64, kind: u8) -> Result<(), String> {
        let value = u32::from(kind) << MESSAGE_TYPE_SHIFT;
        self.command(&format!("writel {:#x} {value:#x}", registers + TSYNCRXCFG))
    }

    fn command(&mut self, command: &str) -> Result<(), String> {
        let mut answer = String::new();
        writeln!(self.stream.get_mut(), "{command}")
            .and_then(|()| self.stream.read_line(&mut answer))
            .map_err(|error| format!("the emulator does not answer `{command}`: {error}"))?;
        if answer.starts_with("OK") {
            Ok(())
        } else {
            Err(format!("the emulator answers `{command}` with {answer:?}"))
        }
    }
}
