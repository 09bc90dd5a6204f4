//! The poll loop in Rust against the same loop in C (`c/poll_loop.c`): receive a burst of up to 32, swap the MAC
//! addresses, send it, free what was refused. On DPDK's null device, and between two net_ring ports back to back.
//!
//! Both loops run as processes of their own that wait for orders, pinned to the same core, so that they take turns
//! within milliseconds. Floor: 0.95 of the C loop's rate.

use roko_benches::two_threads::cores;
use roko_benches::{Comparison, Report};
use roko_dpdk::{
    Burst, Eal, EalConfig, MbufPool, PoolConfig, PortConfig, RxQueue, TxQueue, null_port, ring_pair,
};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const BURST: usize = 32;
/// Set in the process that is to be the loop; its value says over what.
const LOOP_OVER: &str = "ROKO_POLL_LOOP_OVER";

type Ends = (RxQueue, TxQueue);

/// One turn: what arrived at the port goes out of it with its addresses swapped.
#[inline]
fn forward((rx, tx): &mut Ends, burst: &mut Burst) -> usize {
    rx.rx_burst(burst);
    for mbuf in burst.iter_mut() {
        let Some(addresses) = mbuf.data_mut().first_chunk_mut::<12>() else { continue };
        let (destination, source) = addresses.split_at_mut(6);
        destination.swap_with_slice(source);
    }
    let sent = tx.tx_burst(burst);
    burst.clear();
    sent
}

fn queues(port: &mut roko_dpdk::Port, pool: &MbufPool) -> Ends {
    let mut queues = port.start(&PortConfig::default(), pool).expect("a virtual port starts");
    (queues.rx.remove(0), queues.tx.remove(0))
}

/// The Rust loop: answers each line with a number of bursts by the nanoseconds and packets of as many.
fn obey(over: &str) {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("the EAL starts without privilege");
    let pool = eal.pool("frames", &PoolConfig { mbufs: 4095, ..PoolConfig::default() }).expect("a pool");
    let _guard = eal.register_thread().expect("the thread is new to DPDK");
    let mut burst = Burst::new();
    let mut ports = match over {
        "ring" => {
            let (near, far) = ring_pair(&eal, "near", "far", 512).expect("two ports");
            vec![near, far]
        }
        _ => vec![null_port(&eal, 0).expect("a port")],
    };
    let mut ends: Vec<Ends> = ports.iter_mut().map(|port| queues(port, &pool)).collect();
    if over == "ring" {
        burst.extend((0..BURST).map(|at| pool.alloc_from(&[at as u8; 64]).expect("the pool has mbufs")));
        // The loop polls the first port first, so this is what it finds, and no turn is short.
        assert_eq!(ends[1].1.tx_burst(&mut burst), BURST, "the ring has room");
    }
    for line in std::io::stdin().lines() {
        let Some(bursts) = line.ok().and_then(|line| line.trim().parse::<u64>().ok()) else { return };
        let (mut packets, began) = (0, Instant::now());
        for _ in 0..bursts {
            for ends in &mut ends {
                packets += forward(ends, &mut burst);
            }
        }
        println!("{} {packets}", began.elapsed().as_nanos());
    }
}

/// A loop in another process.
struct Loop {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    packets_per_burst: u64,
}

/// Runs of one process. Where its memory lies decides up to a tenth of the rate, so there are several of each.
const RUNS_OF_A_PROCESS: usize = 6;

/// A loop that is started anew every few runs.
fn runs(mut command: Command, packets_per_burst: u64) -> impl FnMut(u64) -> Duration {
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

fn compare(over: &str, ports: u64, criterion: &mut criterion::Criterion, report: &mut Report) {
    let core = cores().last().copied().unwrap_or(0).to_string();
    let mut own = Command::new(std::env::current_exe().expect("a bench is a file"));
    own.env(LOOP_OVER, over);
    let mut c = Command::new(env!("ROKO_POLL_LOOP_C"));
    c.args([over, &core]);
    let packets = BURST as u64 * ports;
    Comparison::new(format!("poll_loop/port=net_{over}"), packets)
        .case("roko_dpdk", runs(own, packets))
        .case("c", runs(c, packets))
        .floor_ratio(1.0 / 0.95)
        .run(criterion, report);
}

fn main() {
    if let Ok(over) = std::env::var(LOOP_OVER) {
        let allowed = cores();
        if let Some(core) = allowed.last() {
            roko_os::affinity::pin_current_thread(*core, allowed).expect("the core is allowed");
        }
        return obey(&over);
    }
    let mut report =
        Report::new("poll_loop", "net_null and net_ring, virtual devices without hugepages: no NIC");
    let mut criterion = Report::criterion();
    compare("null", 1, &mut criterion, &mut report);
    compare("ring", 2, &mut criterion, &mut report);
    report.finish(criterion);
}
