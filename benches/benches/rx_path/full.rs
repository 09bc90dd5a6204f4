//! All six stages into the pool, the time of each apart.

use crate::feed::{Line, Senders};
use crate::poll_until;
use core::cell::RefCell;
use ed25519_zebra::{SigningKey, VerificationKey};
use roko_benches::Report;
use roko_benches::fixtures::{CHAIN, HOUR_NS, START};
use roko_dpdk::{Mbuf, MbufPool};
use roko_os::tsc::tsc;
use roko_pipeline::block_buffer::BlockRoom;
use roko_pipeline::link::{OwnBatch, Seen};
use roko_pipeline::order::{Order, OrderCommand, OrderConfig, OrderLinks};
use roko_pipeline::poll::{PollContext, Stage};
use roko_pipeline::verify::{Verify, VerifyConfig, VerifyLinks};
use roko_ring::mempool::Config;
use roko_ring::spsc::{Consumer, Producer, ring};
use roko_wire::limits::TXS_PER_MESSAGE_MAX;
use roko_wire::rules::TxRules;
use roko_wire::{Hash32, TxId, ValidatorIndex};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Frames of an iteration: whole batches of stamps.
pub(crate) const FRAMES: usize = 50 * TXS_PER_MESSAGE_MAX;
/// Transactions that stand in the pool while others come.
const STANDING: usize = 10_240;
/// Messages whose signatures are checked together: as many as there are lanes. A node takes four, which may hold five
/// transactions each.
const LANES: usize = 8;
const NAMES: [&str; 6] = ["rx", "filter", "decode", "open", "verify", "order"];

/// What each stage took, over all iterations.
#[derive(Clone, Default)]
pub(crate) struct Stages(Rc<RefCell<([Duration; 6], u64)>>);

impl Stages {
    /// Puts the mean of each into the summary.
    pub(crate) fn note(&self, report: &mut Report) {
        let (times, frames) = *self.0.borrow();
        if frames == 0 {
            return;
        }
        let ns = |time: &Duration| time.as_nanos() as f64 / frames as f64;
        let each = NAMES.iter().zip(&times).map(|(name, time)| format!("{name} {:.0}", ns(time)));
        report.note(format!(
            "full_path: mean ns a frame: {}; {frames} sent and as many pooled",
            each.collect::<Vec<_>>().join(", ")
        ));
    }
}

/// The stages behind open, and the control plane's ends.
struct Tail {
    verify: Verify<MbufPool>,
    order: Order<Mbuf>,
    seen: Consumer<Seen>,
    batches: Consumer<OwnBatch<Mbuf>>,
    commands: Producer<OrderCommand>,
    pooled: VecDeque<TxId>,
}

fn tail(line: &mut Line, pool: &MbufPool) -> Tail {
    let (to_order, order_in) = ring(512);
    let (to_spread, batches) = ring(512);
    let (seen_out, seen) = ring(1_024);
    let (commands, commands_in) = ring(1_024);
    let (_, nothing) = ring(1);
    let input = core::mem::replace(&mut line.opened, nothing);
    let (_, injected) = ring(1);
    let (_, finals) = ring(1);
    let links = VerifyLinks { input, injected, finals, to_order, to_spread, pool: pool.clone() };
    let signing_key = SigningKey::from([100; 32]);
    let verify = VerifyConfig {
        rules: TxRules { chain_id: CHAIN, window_ns_max: 24 * HOUR_NS, gas_max: 10_000_000 },
        ingress: ValidatorIndex(0),
        signing_key,
        validators: vec![VerificationKey::from(&signing_key)],
        stamp_flush_us: 200,
        salt: 7,
        messages_per_poll: LANES,
        recent_txs: 1 << 14,
    };
    let order = OrderConfig {
        mempool: Config { prefault: true, ..Config::for_txs(2 * STANDING, 99) },
        chain_id: CHAIN,
        ingress: ValidatorIndex(0),
        signing_key,
        late_flush_us: 200,
        seed: Hash32([7; 32]),
        block_buffers: 1,
        block_room: BlockRoom { txs: 16, body_bytes: 1 << 16 },
    };
    let (to_builder, _) = ring(1);
    let (_, free_buffers) = ring(1);
    let order_links = OrderLinks {
        input: order_in.into(),
        commands: commands_in,
        seen: seen_out,
        to_builder,
        free_buffers,
    };
    Tail {
        verify: Verify::new(verify, crate::SOURCES, line.clock.clone(), links),
        order: Order::new(order, line.clock.clone(), order_links).expect("the sizes fit"),
        seen,
        batches,
        commands,
        pooled: VecDeque::new(),
    }
}

impl Tail {
    /// Takes note of what was pooled, and makes the oldest final so that the pool stays as deep. Returns how many were pooled.
    fn settle(&mut self) -> usize {
        self.batches.pop_each(usize::MAX, drop);
        let before = self.pooled.len();
        self.seen.pop_each(usize::MAX, |seen| self.pooled.push_back(seen.id));
        let pooled = self.pooled.len() - before;
        let valid_until = START.saturating_add(HOUR_NS);
        while self.pooled.len() > STANDING
            && let Some(id) = self.pooled.pop_front()
        {
            let pushed = self.commands.push(OrderCommand::FinalizeId { id, valid_until, now: START });
            assert!(pushed.is_ok(), "the ring holds an iteration's commands");
        }
        self.order.poll(&mut PollContext { tsc: tsc() });
        pooled
    }
}

impl Tail {
    /// Waits until so many are pooled. Stamps share a batch while their bounds are equal, so the last one may be short: what it
    /// waits for company is no cost of a frame, and not timed.
    fn await_pooled(&mut self, frames: usize) {
        let (began, mut pooled) = (Instant::now(), self.settle());
        while pooled < frames && began.elapsed() < Duration::from_secs(1) {
            self.verify.poll(&mut PollContext { tsc: tsc() });
            self.order.poll(&mut PollContext { tsc: tsc() });
            pooled += self.settle();
        }
        assert_eq!(pooled, frames, "every frame's transaction is pooled");
    }
}

/// One iteration: a frame each of so many sources, from the port into the pool.
pub(crate) fn case(
    mut line: Line,
    mut senders: Senders,
    pool: &MbufPool,
    stages: &Stages,
) -> impl FnMut(u64) -> Duration {
    let (mut tail, stages) = (tail(&mut line, pool), stages.clone());
    move |iterations| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            line.feed(&mut senders, FRAMES);
            let mut at = [Instant::now(); 7];
            poll_until(&mut line.rx, FRAMES, FRAMES);
            at[1] = Instant::now();
            poll_until(&mut line.filter, FRAMES, FRAMES);
            at[2] = Instant::now();
            poll_until(&mut line.decode, FRAMES, FRAMES);
            at[3] = Instant::now();
            poll_until(&mut line.open, FRAMES, FRAMES);
            at[4] = Instant::now();
            poll_until(&mut tail.verify, FRAMES, FRAMES);
            at[5] = Instant::now();
            poll_until(&mut tail.order, FRAMES / TXS_PER_MESSAGE_MAX - 1, FRAMES);
            at[6] = Instant::now();
            tail.await_pooled(FRAMES);
            let (times, frames) = &mut *stages.0.borrow_mut();
            for (stage, time) in times.iter_mut().enumerate() {
                *time += at[stage + 1] - at[stage];
            }
            *frames += FRAMES as u64;
            total += at[6] - at[0];
        }
        total
    }
}
