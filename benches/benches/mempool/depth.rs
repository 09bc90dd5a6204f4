//! What a transaction costs while so many others stand in the pool: a block's worth is offered, the oldest block's worth is
//! drained and becomes final, and the depth stays what it was.
//!
//! The claim is that the depth does not matter. What a cache holds of the pool does: that is what the plot shows.

use crate::Pool;
use crate::peers::{Heap, Peer};
use crate::workload::{BLOCK_TXS, Offer, Stream};
use roko_benches::Report;
use roko_benches::plot::{Line, cost_against_size};
use roko_ring::mempool::{BURST_MAX, Config, Mempool};
use roko_wire::NanoMoment;
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Transactions that stand in the pool, before and after each block.
const DEPTHS: [usize; 6] = [1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576];
/// The obvious pool is measured up to here: a larger one takes minutes to fill and shows nothing new.
const PEER_DEPTH_MAX: usize = 262_144;

/// Nanoseconds a transaction of each block: insert, drain, finalise.
type Blocks = Vec<[f64; 3]>;

/// A pool with its standing transactions, and the stream that feeds it.
struct Standing<P> {
    pool: P,
    stream: Stream,
    blocks: RefCell<Blocks>,
}

impl<P: Pool> Standing<P> {
    fn new(mut pool: P, depth: usize) -> Standing<P> {
        let mut stream = Stream::new(depth);
        for at in (0..depth).step_by(BLOCK_TXS) {
            let offers = stream.next_block(BLOCK_TXS.min(depth - at));
            offer_all(&mut pool, &offers, stream.now());
        }
        Standing { pool, stream, blocks: RefCell::default() }
    }

    /// One block in and one block out; the time of it.
    fn block(&mut self) -> Duration {
        let offers = self.stream.next_block(BLOCK_TXS);
        let (tag, from, now) = (self.stream.block(), self.stream.from(), self.stream.now());
        let began = Instant::now();
        let pooled = offer_all(&mut self.pool, &offers, now);
        let inserted = Instant::now();
        let mut bytes = 0;
        let drained = self.pool.drain(tag, from, NanoMoment::MAX, &mut |_, wire| bytes += wire.len());
        let taken = Instant::now();
        let finalised = self.pool.finalize(tag, now);
        let ended = Instant::now();
        assert!(bytes > 0 && pooled == offers.len(), "there is room");
        assert_eq!((drained, finalised), (BLOCK_TXS, BLOCK_TXS), "a block's worth comes out and is final");
        let ns = |time: Duration| time.as_nanos() as f64 / BLOCK_TXS as f64;
        self.blocks.borrow_mut().push([ns(inserted - began), ns(taken - inserted), ns(ended - taken)]);
        ended - began
    }

    /// The median of each operation.
    fn medians(&self) -> [f64; 3] {
        let blocks = self.blocks.borrow();
        core::array::from_fn(|operation| {
            let mut ns: Vec<f64> = blocks.iter().map(|block| block[operation]).collect();
            ns.sort_by(f64::total_cmp);
            ns[ns.len() / 2]
        })
    }
}

fn offer_all(pool: &mut impl Pool, offers: &[Offer], now: NanoMoment) -> usize {
    let refs: Vec<&Offer> = offers.iter().collect();
    refs.chunks(BURST_MAX).map(|burst| pool.insert(burst, now)).sum()
}

/// Measures one pool at one depth, by criterion too.
fn measure<P: Pool>(
    name: &str,
    pool: P,
    depth: usize,
    criterion: &mut criterion::Criterion,
) -> Option<[f64; 3]> {
    let mut standing = None;
    let mut pool = Some(pool);
    let mut group = criterion.benchmark_group(format!("mempool_depth/txs={depth}"));
    group.throughput(criterion::Throughput::Elements(BLOCK_TXS as u64));
    group.bench_function(name, |bencher| {
        // Filled only when it is asked for.
        let standing = standing.get_or_insert_with(|| Standing::new(pool.take().expect("once"), depth));
        bencher.iter_custom(|iterations| (0..iterations).map(|_| standing.block()).sum());
    });
    group.finish();
    standing.map(|standing| standing.medians())
}

/// One row of the table.
struct Row {
    depth: usize,
    own: [f64; 3],
    peer: Option<[f64; 3]>,
    memory_bytes: usize,
}

/// Measures every depth; prints the table and writes the plot beside criterion's files.
pub(crate) fn run(criterion: &mut criterion::Criterion, report: &mut Report) {
    let mut rows = Vec::new();
    // A try shows that it works; filling the largest pools would only take long.
    let depths = if report.measures() { &DEPTHS[..] } else { &DEPTHS[..2] };
    for &depth in depths {
        let config =
            Config { prefault: true, ..Config::for_txs((depth + depth / 4).max(depth + 2 * BLOCK_TXS), 7) };
        let pool = Mempool::<u64>::new(&config).expect("the sizes fit");
        let (memory_bytes, txs_max) = (pool.memory_bytes(), config.txs_max());
        let own = measure("roko_mempool", pool, depth, criterion);
        let obvious = || measure("btree_heap_hash_mutex", &Peer::<Heap>::new(txs_max), depth, criterion);
        let peer = (depth <= PEER_DEPTH_MAX).then(obvious).flatten();
        rows.extend(own.map(|own| Row { depth, own, peer, memory_bytes }));
    }
    if rows.is_empty() || !report.measures() {
        return;
    }
    print(&rows);
    match write_plot(&rows) {
        Ok(path) => report.note(format!("mempool_depth: the plot is {}", path.display())),
        Err(error) => report.note(format!("mempool_depth: the plot was not written: {error}")),
    }
}

fn print(rows: &[Row]) {
    println!(
        "\nmempool_depth: median ns a transaction at a standing depth, and the pool's memory, which is fixed"
    );
    println!(
        "  {:>9} {:>7} {:>7} {:>8} {:>7} {:>12} {:>10}",
        "depth", "insert", "drain", "finalise", "all", "obvious pool", "memory"
    );
    for row in rows {
        let [insert, drain, finalise] = row.own;
        let peer = row.peer.map_or("-".into(), |peer| format!("{:.0}", peer.iter().sum::<f64>()));
        println!(
            "  {:>9} {insert:>7.0} {drain:>7.0} {finalise:>8.0} {:>7.0} {peer:>12} {:>6} MiB",
            row.depth,
            insert + drain + finalise,
            row.memory_bytes >> 20
        );
    }
}

fn write_plot(rows: &[Row]) -> std::io::Result<PathBuf> {
    let of = |operation: usize| rows.iter().map(|row| row.own[operation]).collect();
    let all = rows.iter().map(|row| row.own.iter().sum()).collect();
    let names = ["insert", "drain", "finalise"];
    let mut lines: Vec<Line> =
        names.iter().enumerate().map(|(at, name)| Line { name: (*name).into(), nanos: of(at) }).collect();
    lines.push(Line { name: "insert, drain and finalise".into(), nanos: all });
    let sizes: Vec<usize> = rows.iter().map(|row| row.depth).collect();
    let svg = cost_against_size(
        "Temporal mempool: cost of a transaction",
        "median of blocks of 1,000 at a standing depth, one thread",
        "transactions that stand in the pool",
        &sizes,
        &lines,
    );
    let path = criterion_folder().join("mempool_depth.svg");
    std::fs::write(&path, svg)?;
    Ok(path)
}

/// Where criterion keeps its files: what the environment says, else `criterion` beside the folder of the profile.
fn criterion_folder() -> PathBuf {
    if let Some(home) = std::env::var_os("CRITERION_HOME") {
        return home.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    // target/release/deps/mempool-0123456789abcdef
    exe.ancestors().nth(3).map(|target| target.join("criterion")).unwrap_or_default()
}
