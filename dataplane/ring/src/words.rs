//! [`Words`]: plain data as a sequence of 64-bit words, so that it can sit in atomics.
//!
//! A reader of the broadcast ring or of a page may copy a value while the writer replaces it. With the payload
//! in relaxed atomic words that is no data race, and the torn value is thrown away after the version check.
//! Going through words field by field also keeps padding bytes, which may be uninitialised, out of it.

use roko_wire::clock::ClockMap;
use roko_wire::nano::{ClockSource, ClockState};
use roko_wire::port_clock::{PortMap, PortUnit};
use roko_wire::{Address, BlockId, Epoch, Hash32, Height, NanoMoment, TxId, View};

/// Plain data of a fixed number of words.
///
/// `take` may see words of two different values mixed, whose result is discarded: it must return for any words
/// (no panic, no loop on a value).
pub trait Words: Copy {
    /// How many words `put` writes and `take` reads.
    const WORDS: usize;
    /// Writes the words in order.
    fn put(&self, sink: &mut impl FnMut(u64));
    /// Reads the words in the same order.
    fn take(source: &mut impl FnMut() -> u64) -> Self;
}

macro_rules! integer_words {
    ($($int:ty),*) => {$(
        impl Words for $int {
            const WORDS: usize = 1;
            #[inline(always)]
            fn put(&self, sink: &mut impl FnMut(u64)) {
                sink(*self as u64);
            }
            #[inline(always)]
            fn take(source: &mut impl FnMut() -> u64) -> Self {
                source() as $int
            }
        }
    )*};
}
integer_words!(u8, u16, u32, u64, usize, i32, i64);

impl Words for bool {
    const WORDS: usize = 1;
    #[inline(always)]
    fn put(&self, sink: &mut impl FnMut(u64)) {
        sink(u64::from(*self));
    }
    #[inline(always)]
    fn take(source: &mut impl FnMut() -> u64) -> Self {
        source() != 0
    }
}

impl Words for u128 {
    const WORDS: usize = 2;
    #[inline(always)]
    fn put(&self, sink: &mut impl FnMut(u64)) {
        sink(*self as u64);
        sink((*self >> 64) as u64);
    }
    #[inline(always)]
    fn take(source: &mut impl FnMut() -> u64) -> Self {
        let low = source();
        u128::from(low) | u128::from(source()) << 64
    }
}

impl Words for i128 {
    const WORDS: usize = 2;
    #[inline(always)]
    fn put(&self, sink: &mut impl FnMut(u64)) {
        (*self as u128).put(sink);
    }
    #[inline(always)]
    fn take(source: &mut impl FnMut() -> u64) -> Self {
        u128::take(source) as i128
    }
}

impl Words for f64 {
    const WORDS: usize = 1;
    #[inline(always)]
    fn put(&self, sink: &mut impl FnMut(u64)) {
        sink(self.to_bits());
    }
    #[inline(always)]
    fn take(source: &mut impl FnMut() -> u64) -> Self {
        f64::from_bits(source())
    }
}

/// Each element takes whole words; for bytes use [`Octets`], which packs eight to a word.
impl<T: Words, const N: usize> Words for [T; N] {
    const WORDS: usize = N * T::WORDS;
    #[inline(always)]
    fn put(&self, sink: &mut impl FnMut(u64)) {
        self.iter().for_each(|element| element.put(sink));
    }
    #[inline(always)]
    fn take(source: &mut impl FnMut() -> u64) -> Self {
        core::array::from_fn(|_| T::take(source))
    }
}

/// Bytes packed eight to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Octets<const N: usize>(pub [u8; N]);

/// A node clock's map. Torn words, which the page throws away, read as a degraded system clock.
impl Words for ClockMap {
    const WORDS: usize = 9;
    fn put(&self, sink: &mut impl FnMut(u64)) {
        self.base.0.put(sink);
        for word in [self.tsc_base, self.nanos_per_tick_q32, self.bound_ns, self.bound_ns_max] {
            sink(word);
        }
        sink(u64::from(self.drift_ppb));
        sink(self.source as u64);
        sink(self.state as u64);
    }
    fn take(source: &mut impl FnMut() -> u64) -> ClockMap {
        let base = NanoMoment(u128::take(source));
        let [tsc_base, nanos_per_tick_q32, bound_ns, bound_ns_max] = core::array::from_fn(|_| source());
        ClockMap {
            tsc_base,
            base,
            nanos_per_tick_q32,
            bound_ns,
            bound_ns_max,
            drift_ppb: source() as u32,
            source: ClockSource::from_byte(source() as u8).unwrap_or(ClockSource::System),
            state: clock_state(source()),
        }
    }
}

fn clock_state(word: u64) -> ClockState {
    match word {
        0 => ClockState::Initializing,
        1 => ClockState::Converging,
        2 => ClockState::Converged,
        3 => ClockState::Holdover,
        _ => ClockState::Degraded,
    }
}

/// The map of a port's clock. Torn words, which the page throws away, read as a degraded one.
impl Words for PortMap {
    const WORDS: usize = 9;
    fn put(&self, sink: &mut impl FnMut(u64)) {
        for word in [self.base, self.tsc_base, self.tsc_per_count_q32, self.tsc_per_count_q32_before] {
            sink(word);
        }
        sink(self.bound_ticks);
        sink(self.bound_ticks_max);
        sink(u64::from(self.drift_ppb));
        sink(self.unit as u64);
        sink(self.state as u64);
    }
    fn take(source: &mut impl FnMut() -> u64) -> PortMap {
        let [base, tsc_base, tsc_per_count_q32, tsc_per_count_q32_before] =
            core::array::from_fn(|_| source());
        let [bound_ticks, bound_ticks_max] = core::array::from_fn(|_| source());
        PortMap {
            base,
            tsc_base,
            tsc_per_count_q32,
            tsc_per_count_q32_before,
            bound_ticks,
            bound_ticks_max,
            drift_ppb: source() as u32,
            unit: if source() == 0 { PortUnit::Nanoseconds } else { PortUnit::Ticks },
            state: clock_state(source()),
        }
    }
}

impl<const N: usize> Words for Octets<N> {
    const WORDS: usize = N.div_ceil(8);
    #[inline(always)]
    fn put(&self, sink: &mut impl FnMut(u64)) {
        for chunk in self.0.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sink(u64::from_le_bytes(word));
        }
    }
    #[inline(always)]
    fn take(source: &mut impl FnMut() -> u64) -> Self {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let length = chunk.len();
            chunk.copy_from_slice(&source().to_le_bytes()[..length]);
        }
        Octets(bytes)
    }
}

/// Implements [`Words`](crate::words::Words) for a struct by its fields, in the order given.
///
/// ```
/// #[derive(Clone, Copy)]
/// struct Reading { now: u128, error_bound_ns: u64 }
/// roko_ring::words!(Reading { now: u128, error_bound_ns: u64 });
/// ```
#[macro_export]
macro_rules! words {
    ($name:ty { $($field:tt : $kind:ty),+ $(,)? }) => {
        impl $crate::words::Words for $name {
            const WORDS: usize = 0 $(+ <$kind as $crate::words::Words>::WORDS)+;
            #[inline(always)]
            fn put(&self, sink: &mut impl FnMut(u64)) {
                $(<$kind as $crate::words::Words>::put(&self.$field, sink);)+
            }
            #[inline(always)]
            fn take(source: &mut impl FnMut() -> u64) -> Self {
                Self { $($field: <$kind as $crate::words::Words>::take(source)),+ }
            }
        }
    };
}

macro_rules! id_words {
    ($($name:ident: $length:literal),*) => {$(
        impl Words for $name {
            const WORDS: usize = Octets::<$length>::WORDS;
            #[inline(always)]
            fn put(&self, sink: &mut impl FnMut(u64)) {
                Octets(self.0).put(sink);
            }
            #[inline(always)]
            fn take(source: &mut impl FnMut() -> u64) -> Self {
                $name(Octets::take(source).0)
            }
        }
    )*};
}
id_words!(Hash32: 32, BlockId: 32, TxId: 32, Address: 20);
words!(NanoMoment { 0: u128 });
words!(View { 0: u64 });
words!(Height { 0: u64 });
words!(Epoch { 0: u64 });
