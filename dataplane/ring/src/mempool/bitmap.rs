//! A fixed bitmap with two summary levels: the next bit set is found in a few word operations.

pub(super) struct Bitmap {
    words: Box<[u64]>,
    /// Bit w of the summary says that `words[w]` is not zero.
    summary: Box<[u64]>,
    /// Bit s says that `summary[s]` is not zero; a handful of words for a million bits.
    top: Box<[u64]>,
}

impl Bitmap {
    pub(super) fn new(bits: usize) -> Bitmap {
        let words = bits.div_ceil(64);
        let summary = words.div_ceil(64);
        Bitmap {
            words: vec![0; words].into(),
            summary: vec![0; summary].into(),
            top: vec![0; summary.div_ceil(64)].into(),
        }
    }

    #[inline]
    pub(super) fn set(&mut self, bit: usize) {
        self.words[bit / 64] |= 1 << (bit % 64);
        self.summary[bit / 4096] |= 1 << (bit / 64 % 64);
        self.top[bit / 262_144] |= 1 << (bit / 4096 % 64);
    }

    #[inline]
    pub(super) fn clear(&mut self, bit: usize) {
        let word = &mut self.words[bit / 64];
        *word &= !(1 << (bit % 64));
        if *word == 0 {
            self.clear_summary(bit);
        }
    }

    fn clear_summary(&mut self, bit: usize) {
        let word = &mut self.summary[bit / 4096];
        *word &= !(1 << (bit / 64 % 64));
        if *word == 0 {
            self.top[bit / 262_144] &= !(1 << (bit / 4096 % 64));
        }
    }

    /// The lowest bit set at or after `from`.
    #[inline]
    pub(super) fn next_set(&self, from: usize) -> Option<usize> {
        let first = from / 64;
        let here = self.words.get(first)? & (u64::MAX << (from % 64));
        if here != 0 {
            return Some(first * 64 + here.trailing_zeros() as usize);
        }
        let word = self.next_word(first + 1)?;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }

    /// The first word from `from` on that is not zero.
    fn next_word(&self, from: usize) -> Option<usize> {
        let first = from / 64;
        let here = self.summary.get(first)? & (u64::MAX << (from % 64));
        if here != 0 {
            return Some(first * 64 + here.trailing_zeros() as usize);
        }
        let summary = next_in(&self.top, first + 1)?;
        Some(summary * 64 + self.summary[summary].trailing_zeros() as usize)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        (self.words.len() + self.summary.len() + self.top.len()) * 8
    }
}

fn next_in(words: &[u64], from: usize) -> Option<usize> {
    let mut at = from / 64;
    let mut word = words.get(at)? & (u64::MAX << (from % 64));
    while word == 0 {
        at += 1;
        word = *words.get(at)?;
    }
    Some(at * 64 + word.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn next_set_is_the_lowest_at_or_after(bits in prop::collection::btree_set(0_usize..600_000, 0..40),
                                              cleared in prop::collection::vec(0_usize..600_000, 0..40),
                                              from in 0_usize..600_100) {
            let mut map = Bitmap::new(600_000);
            let mut model = bits.clone();
            bits.iter().for_each(|&bit| map.set(bit));
            for bit in cleared.iter().copied().chain(bits.iter().copied().step_by(3)) {
                map.clear(bit);
                model.remove(&bit);
            }
            prop_assert_eq!(map.next_set(from), model.range(from..).next().copied());
        }
    }
}
