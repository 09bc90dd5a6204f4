//! QEMU's monitor (QMP): pulls and plugs the guest's cables.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The monitor's socket. One client at a time has it.
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    pub(crate) fn connect(socket: &Path) -> Result<Monitor, String> {
        let stream = UnixStream::connect(socket)
            .and_then(|stream| stream.set_read_timeout(Some(Duration::from_secs(10))).map(|()| stream))
            .map_err(|error| format!("the monitor's socket {}: {error}", socket.display()))?;
        let mut monitor = Monitor { stream: BufReader::new(stream) };
        // It greets, and takes no command before its capabilities are agreed on.
        monitor.answer("greeting")?;
        monitor.command(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(monitor)
    }

    /// Whether the cable of port `index` is plugged in, from now on.
    pub(crate) fn set_link(&mut self, index: usize, up: bool) -> Result<(), String> {
        let cable = format!("cable{index}");
        self.command(&json!({ "execute": "set_link", "arguments": { "name": cable, "up": up } }))
    }

    fn command(&mut self, command: &Value) -> Result<(), String> {
        writeln!(self.stream.get_mut(), "{command}")
            .map_err(|error| format!("the monitor takes no {command}: {error}"))?;
        loop {
            let answer = self.answer(&command.to_string())?;
            match (answer.get("return"), answer.get("error")) {
                (Some(_), _) => return Ok(()),
                (None, Some(error)) => return Err(format!("the monitor answers {command} with {error}")),
                // An event, which comes when it comes.
                (None, None) => {}
            }
        }
    }

    fn answer(&mut self, to: &str) -> Result<Value, String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        read.map_err(|error| format!("the monitor does not answer {to}: {error}"))?;
        serde_json::from_str(&line)
            .map_err(|error| format!("the monitor answers {to} with {line:?}: {error}"))
    }
}
