//! Loops in other processes that wait for orders.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A loop in another process.
pub(crate) struct Loop {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    packets_per_burst: u64,
}

/// Runs of one process. Where its memory lies decides up to a tenth of the rate, so there are several of each.
const RUNS_OF_A_PROCESS: usize = 6;

/// A loop that is started anew every few runs.
pub(crate) fn runs(mut command: Command, packets_per_burst: u64) -> impl FnMut(u64) -> Duration {
    let (mut running, mut left) = (None, 0);
    move |bursts| {
        if left == 0 {
            // The old one ends before the new one starts: the two would share the core.
            running = None;
            left = RUNS_OF_A_PROCESS;
        }
        left -= 1;
        let running = running.get_or_insert_with(|| {
            let mut fresh = Loop::start(&mut command, packets_per_burst);
            fresh.run(WARM_UP_BURSTS);
            fresh
        });
        running.run(bursts)
    }
}

/// Fills the pool's per-thread cache and the CPU's.
const WARM_UP_BURSTS: u64 = 1_000;

impl Loop {
    fn start(command: &mut Command, packets_per_burst: u64) -> Loop {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the loop starts");
        let (orders, answers) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        Loop { child, orders, answers: BufReader::new(answers), packets_per_burst }
    }

    fn run(&mut self, bursts: u64) -> Duration {
        let orders = self.orders.as_mut().expect("open until the drop");
        writeln!(orders, "{bursts}").and_then(|()| orders.flush()).expect("the loop listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the loop answers");
        let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u64>().ok());
        let (Some(ns), Some(packets)) = (numbers.next(), numbers.next()) else {
            panic!("the loop answered {line:?}: its own message is above");
        };
        assert_eq!(packets, bursts * self.packets_per_burst, "no burst was short");
        Duration::from_nanos(ns)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.orders = None;
        let _ = self.child.wait();
    }
}
