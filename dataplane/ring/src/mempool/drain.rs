//! The drain: pending transactions leave for a block, in the canonical order.
//!
//! The order, as a validator rechecks it from the block alone. The key of a transaction is (time, tie break, id).
//! 1. Every transaction has `moment = max(time, previous moment + 1)`; the first one's previous is the parent's
//!    last moment. It is below the watermark and not past `valid_until`.
//! 2. A transaction whose key is above that of every one before it stands in its own place.
//! 3. Any other is *displaced*: it was held for a lower nonce of its sender, and comes directly after that one
//!    (same sender, nonce less one, the transaction before it in the block).
//!
//! So a held transaction follows its predecessor at once, then its own successors that were passed over too, and
//! the line goes on behind them.

use super::Mempool;
use super::senders::is_next;
use super::slots::Place;
use super::types::{DrainReport, Drained, Ended, Limits, Span, Verdict};
use super::wheel::Home;
use crate::index::NIL;
use crate::prefetch;
use roko_wire::NanoMoment;

/// How many transactions ahead of the present one the drain asks for an entry's lines, and for what they lead to.
const AHEAD: usize = 16;
const SOON: usize = 8;

/// What became of a transaction that was offered.
enum Offer {
    Taken,
    Left,
    End(Ended),
}

/// The state of one drain.
struct Run<F> {
    span: Span,
    limits: Limits,
    tag_slot: u32,
    /// Entries visited and left, linked through the heap's fields: they go back when the drain ends.
    stash: u32,
    report: DrainReport,
    line: Line,
    sink: F,
}

/// The ticks that come next, looked up ahead so that their memory can be asked for. Nothing is added to a tick while a drain
/// goes on, so what was found stays right.
struct Line {
    /// The tick whose entries are visited now.
    tick: u64,
    /// Ticks behind it, and the earliest entry of each, from number `taken` to `found` of those found so far.
    ticks: [u64; AHEAD],
    entries: [u32; AHEAD],
    taken: usize,
    found: usize,
    /// The last tick that was found.
    last: u64,
    /// The tick of the watermark; those behind it are not looked for.
    end: u64,
    ended: Option<LineEnd>,
}

/// Why no more ticks are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    /// The next is behind the watermark.
    Watermark,
    /// The window holds no more; what is beyond it comes next.
    Window,
}

impl Line {
    fn new(from: u64, end: u64) -> Line {
        let (ticks, entries) = ([0; AHEAD], [NIL; AHEAD]);
        Line { tick: from, ticks, entries, taken: 0, found: 0, last: from, end, ended: None }
    }
}

impl<M: Copy> Mempool<M> {
    /// Offers pending transactions with `from <= time < watermark` to `sink`, in the canonical order, and puts
    /// those it takes in flight under `tag`. Nothing is dropped: what is not taken stays pending.
    ///
    /// An entry older than `from` by more than a quarter of the wheel, for the largest `from` seen so far, is not
    /// visited even by an earlier `from`; `take_late` has it. A transaction is offered when no lower nonce of
    /// its sender is pending, and the nearest in flight is the one just below; the sink knows the account's nonce.
    pub fn drain(
        &mut self,
        tag: u64,
        span: Span,
        limits: Limits,
        sink: impl FnMut(Drained<'_, M>) -> Verdict,
    ) -> DrainReport {
        let report = DrainReport {
            txs: 0,
            bytes: 0,
            gas: 0,
            last_moment: span.after,
            reached: span.from,
            ended: Ended::TagsExhausted,
            moved: 0,
            displaced: 0,
            held: 0,
            unfit: 0,
            skipped: 0,
        };
        self.wheel.advance(&mut self.slots, span.from);
        let Some(tag_slot) = self.tags.open(&self.hasher, tag) else {
            self.counters.drains_refused += 1;
            return report;
        };
        let first = self.wheel.tick(span.from.0).max(self.wheel.base);
        let line = Line::new(first, self.wheel.tick(span.watermark.0));
        let mut run = Run { span, limits, tag_slot, stash: NIL, report, line, sink };
        run.report.ended = self.run(&mut run);
        self.put_stash_back(run.stash);
        self.tags.close_if_empty(&self.hasher, tag_slot);
        let report = run.report;
        self.counters.drained += report.txs as u64;
        self.counters.moments_moved += report.moved as u64;
        self.counters.displaced += report.displaced as u64;
        report
    }

    /// Walks the line in key order until the watermark or an early end.
    fn run<F: FnMut(Drained<'_, M>) -> Verdict>(&mut self, run: &mut Run<F>) -> Ended {
        while let Some(entry) = self.next_of_line(&mut run.line) {
            let time = NanoMoment(self.slots.hot[entry as usize].time);
            if time >= run.span.watermark {
                break;
            }
            if time < run.span.from {
                // The tick that holds `from` may begin before it.
                self.stash(run, entry);
                continue;
            }
            run.report.reached = time;
            if self.is_held(entry) {
                run.report.held += 1;
                self.stash(run, entry);
                continue;
            }
            match self.offer(run, entry, false) {
                Offer::Left => self.stash(run, entry),
                Offer::End(why) => return why,
                Offer::Taken => {
                    if let Some(why) = self.follow(run, entry) {
                        return why;
                    }
                }
            }
        }
        run.report.reached = run.span.watermark.max(run.span.from);
        Ended::Watermark
    }

    /// The earliest entry that was not visited, those that are late left out.
    #[inline]
    fn next_of_line(&self, line: &mut Line) -> Option<u32> {
        let here = self.wheel.root(line.tick);
        if here != NIL {
            return Some(here);
        }
        self.look_ahead(line);
        if line.taken == line.found {
            let beyond = line.ended == Some(LineEnd::Window) && self.wheel.overflow != NIL;
            return beyond.then_some(self.wheel.overflow);
        }
        line.tick = line.ticks[line.taken % AHEAD];
        line.taken += 1;
        let first = self.wheel.root(line.tick);
        self.ask_for_rest_of_tick(first);
        Some(first)
    }

    /// Asks for what comes after the first entry of a crowded tick: its second one's lines are here, most likely.
    #[inline]
    fn ask_for_rest_of_tick(&self, first: u32) {
        let second = self.slots.hot[first as usize].child;
        if second == NIL {
            return;
        }
        self.ask_for_taking(second);
        let hot = &self.slots.hot[second as usize];
        let third = if hot.child == NIL { hot.next } else { hot.child };
        if third != NIL {
            self.slots.prefetch(third);
        }
    }

    /// Finds the next ticks and asks for their entries. Of a tick's entries the first two are asked for.
    #[inline]
    fn look_ahead(&self, line: &mut Line) {
        while line.ended.is_none() && line.found < line.taken + AHEAD {
            let Some((tick, entry)) = self.wheel.tick_after(line.last) else {
                line.ended = Some(LineEnd::Window);
                return;
            };
            if tick > line.end {
                line.ended = Some(LineEnd::Watermark);
                return;
            }
            self.slots.prefetch(entry);
            self.slots.prefetch_meta(entry);
            let soon = line.entries[(line.found + AHEAD - SOON) % AHEAD];
            if soon != NIL {
                self.ask_for_taking(soon);
                self.ask_for_second(soon);
            }
            (line.ticks[line.found % AHEAD], line.entries[line.found % AHEAD]) = (tick, entry);
            line.last = tick;
            line.found += 1;
        }
    }

    /// Asks for what taking an entry touches beside its own lines, which are here.
    #[inline]
    fn ask_for_taking(&self, entry: u32) {
        let hot = &self.slots.hot[entry as usize];
        self.senders.prefetch_number(hot.chain);
        self.fees.prefetch(hot.fee_at);
        self.slots.prefetch_hot(hot.sender.next);
        prefetch::bytes(self.slots.bytes(entry));
    }

    /// Asks for the entry of the same tick that comes after its first one, most likely.
    #[inline]
    fn ask_for_second(&self, first: u32) {
        let child = self.slots.hot[first as usize].child;
        if child != NIL {
            self.slots.prefetch(child);
            self.slots.prefetch_meta(child);
        }
    }

    /// Whether a lower nonce of the sender stands in the way: a pending one, or a gap.
    #[inline]
    fn is_held(&self, entry: u32) -> bool {
        let hot = &self.slots.hot[entry as usize];
        hot.gap || self.senders.first_pending(hot.chain) != entry
    }

    fn is_next_nonce(&self, prev: u32, next: u32) -> bool {
        is_next(self.slots.hot[prev as usize].nonce, self.slots.hot[next as usize].nonce)
    }

    /// Takes the sender's next nonces that the line has passed over, directly after `own_place`.
    fn follow<F: FnMut(Drained<'_, M>) -> Verdict>(
        &mut self,
        run: &mut Run<F>,
        own_place: u32,
    ) -> Option<Ended> {
        let mut at = own_place;
        loop {
            let next = self.slots.hot[at as usize].sender.next;
            if next == NIL || !self.is_next_nonce(at, next) || !self.was_passed(run.span, next, own_place) {
                return None;
            }
            match self.offer(run, next, true) {
                Offer::Taken => at = next,
                Offer::Left => return None,
                Offer::End(why) => return Some(why),
            }
        }
    }

    /// Whether this drain has visited `entry` before `own_place`; if so it is in the stash.
    fn was_passed(&self, span: Span, entry: u32, own_place: u32) -> bool {
        let hot = &self.slots.hot[entry as usize];
        hot.place == Place::Placed
            && hot.time >= span.from.0
            && self.wheel.home(hot.time) != Home::Late
            && self.slots.before(entry, own_place)
    }

    /// Gives an entry its moment, asks the sink, and takes it.
    fn offer<F: FnMut(Drained<'_, M>) -> Verdict>(
        &mut self,
        run: &mut Run<F>,
        entry: u32,
        displaced: bool,
    ) -> Offer {
        let view = self.view(entry);
        let (bytes, report) = (view.bytes.len(), &mut run.report);
        if report.txs >= run.limits.txs {
            return Offer::End(Ended::Full);
        }
        if bytes > run.limits.bytes || view.gas > run.limits.gas {
            report.unfit += 1;
            return Offer::Left;
        }
        if bytes > run.limits.bytes - report.bytes || view.gas > run.limits.gas - report.gas {
            return Offer::End(Ended::Full);
        }
        let Some(moment) = report.last_moment.checked_add(1).map(|least| least.max(view.time)) else {
            return Offer::End(Ended::MomentsUsed);
        };
        if moment >= run.span.watermark {
            return Offer::End(Ended::MomentsUsed);
        }
        if moment > view.valid_until {
            report.unfit += 1;
            return Offer::Left;
        }
        let (gas, time) = (view.gas, view.time);
        match (run.sink)(view.drained(moment, displaced)) {
            Verdict::Take => {}
            Verdict::Skip => {
                report.skipped += 1;
                return Offer::Left;
            }
            Verdict::Stop => return Offer::End(Ended::Stopped),
        }
        report.txs += 1;
        report.bytes += bytes;
        report.gas += gas;
        report.last_moment = moment;
        report.moved += usize::from(moment != time);
        if displaced {
            report.displaced += 1;
            report.held -= 1;
            self.unstash(run, entry);
        } else {
            self.wheel.remove(&mut self.slots, entry);
        }
        // It has left the time index already; only the eviction order has it still.
        self.slots.hot[entry as usize].place = Place::Awaiting;
        self.take_off(entry, false);
        // A pending entry is under no tag, so a node is free.
        self.tags.attach(&mut self.slots, run.tag_slot, entry);
        Offer::Taken
    }

    /// Moves an entry from the time index to the stash.
    fn stash<F>(&mut self, run: &mut Run<F>, entry: u32) {
        self.wheel.remove(&mut self.slots, entry);
        let hot = &mut self.slots.hot[entry as usize];
        (hot.prev, hot.next) = (NIL, run.stash);
        if run.stash != NIL {
            self.slots.hot[run.stash as usize].prev = entry;
        }
        run.stash = entry;
    }

    fn unstash<F>(&mut self, run: &mut Run<F>, entry: u32) {
        let hot = self.slots.hot[entry as usize];
        match hot.prev {
            NIL => run.stash = hot.next,
            prev => self.slots.hot[prev as usize].next = hot.next,
        }
        if hot.next != NIL {
            self.slots.hot[hot.next as usize].prev = hot.prev;
        }
    }

    fn put_stash_back(&mut self, mut stash: u32) {
        while stash != NIL {
            let next = self.slots.hot[stash as usize].next;
            self.wheel.insert(&mut self.slots, stash);
            stash = next;
        }
    }
}
