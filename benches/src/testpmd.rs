//! DPDK's testpmd, started once a comparison and told by its prompt when to forward.

use crate::two_threads::cores;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// What it prints when it takes the next command.
const PROMPT: &str = "testpmd> ";
/// How long it forwards before it is measured, and while.
const WARM_UP: Duration = Duration::from_millis(5);
const WINDOW: Duration = Duration::from_millis(40);

/// A testpmd that waits at its prompt. Between two measurements it forwards nothing.
pub struct Testpmd {
    child: Child,
    commands: ChildStdin,
    said: ChildStdout,
}

impl Testpmd {
    /// Starts it over `device` with a forwarding engine, on the core that the loops are pinned to; its prompt has another.
    pub fn new(device: &str, engine: &str) -> Result<Testpmd, String> {
        let [prompt, .., forwarding] = *cores() else { return Err("testpmd needs two cores".into()) };
        // Its C library would keep what it says in a buffer while its input is no terminal.
        let mut command = Command::new("stdbuf");
        command.args(["-o0", "dpdk-testpmd"]);
        command.args(["-l", &format!("{prompt},{forwarding}"), "--main-lcore", &prompt.to_string()]);
        command.args([
            "--no-huge",
            "-m",
            "64",
            "--no-shconf",
            "--no-telemetry",
            "--no-pci",
            "--vdev",
            device,
        ]);
        command.args([
            "--",
            "-i",
            "--burst=32",
            "--total-num-mbufs=4095",
            "--nb-cores=1",
            "--port-topology=loop",
        ]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child =
            piped.spawn().map_err(|error| format!("stdbuf of coreutils does not start: {error}"))?;
        let commands = child.stdin.take().ok_or("it has no input")?;
        let said = child.stdout.take().ok_or("it has no output")?;
        let mut testpmd = Testpmd { child, commands, said };
        testpmd.until_prompt()?;
        testpmd.tell(&format!("set fwd {engine}"))?;
        Ok(testpmd)
    }

    /// An iteration is one burst of so many packets: the time is what its rate makes of that.
    pub fn case(mut self, packets_per_burst: u64) -> impl FnMut(u64) -> Duration {
        move |bursts| {
            let (packets, took) = self.measure().expect("testpmd answers");
            took.mul_f64((bursts * packets_per_burst) as f64 / packets as f64)
        }
    }

    /// Packets forwarded in a window, and its length.
    fn measure(&mut self) -> Result<(u64, Duration), String> {
        // Its own first burst goes round where the port leads back to itself.
        self.tell("start tx_first 1")?;
        std::thread::sleep(WARM_UP);
        self.tell("clear fwd stats all")?;
        let began = Instant::now();
        std::thread::sleep(WINDOW);
        let shown = self.tell("show fwd stats all")?;
        let took = began.elapsed();
        self.tell("stop")?;
        let number =
            shown.split("RX-packets:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        match number {
            Some(packets) if packets > 0 => Ok((packets, took)),
            _ => Err(format!("it forwarded nothing: {shown}")),
        }
    }

    fn tell(&mut self, command: &str) -> Result<String, String> {
        writeln!(self.commands, "{command}").map_err(|error| error.to_string())?;
        self.until_prompt()
    }

    fn until_prompt(&mut self) -> Result<String, String> {
        let (mut all, mut buf) = (Vec::new(), [0; 4096]);
        loop {
            let count = self.said.read(&mut buf).map_err(|error| error.to_string())?;
            if count == 0 {
                let said = String::from_utf8_lossy(&all);
                return Err(format!("dpdk-testpmd has ended, or the package dpdk-dev is missing: {said}"));
            }
            all.extend_from_slice(&buf[..count]);
            if all.ends_with(PROMPT.as_bytes()) {
                return Ok(String::from_utf8_lossy(&all).into_owned());
            }
        }
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // One that has ended already hears nothing.
        let _ = writeln!(self.commands, "quit");
        let mut rest = Vec::new();
        let _ = self.said.read_to_end(&mut rest);
        let _ = self.child.wait();
    }
}
