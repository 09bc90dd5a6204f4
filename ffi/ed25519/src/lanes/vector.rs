//! Vectors of eight 64-bit words, from bytes and back.

use core::arch::x86_64::{
    __m512i, _mm512_permutex2var_epi64, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::LANES;

/// The four little-endian words of each lane's bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(super) fn words_of(bytes: [&[u8; 32]; LANES]) -> [__m512i; 4] {
    let mut words = [_mm512_setzero_si512(); 4];
    for (i, word) in words.iter_mut().enumerate() {
        let mut lanes = [0; LANES];
        for (lane, bytes) in lanes.iter_mut().zip(bytes) {
            let (chunks, _) = bytes.as_chunks();
            *lane = i64::from_le_bytes(chunks[i]);
        }
        *word = vector(&lanes);
    }
    words
}

/// A vector of eight words.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(super) fn vector(w: &[i64; LANES]) -> __m512i {
    _mm512_setr_epi64(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7])
}

/// The words of a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(super) fn lanes_of(vector: __m512i) -> [u64; LANES] {
    let mut words = [0; LANES];
    // SAFETY: the array holds the 64 bytes that are stored, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}

/// Word j of vector i goes to word i of vector j.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(super) fn transpose(rows: &[__m512i; 8]) -> [__m512i; 8] {
    let mut pairs = *rows;
    for i in 0..4 {
        // Words (0, 2, 4, 6) and (1, 3, 5, 7) of two rows, interleaved.
        pairs[2 * i] = _mm512_unpacklo_epi64(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi64(rows[2 * i], rows[2 * i + 1]);
    }
    let near = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let far = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    let mut fours = pairs;
    for half in 0..2 {
        for i in 0..2 {
            let (first, second) = (pairs[4 * half + i], pairs[4 * half + i + 2]);
            fours[4 * half + i] = _mm512_permutex2var_epi64(first, near, second);
            fours[4 * half + i + 2] = _mm512_permutex2var_epi64(first, far, second);
        }
    }
    let low = _mm512_setr_epi64(0, 1, 2, 3, 8, 9, 10, 11);
    let high = _mm512_setr_epi64(4, 5, 6, 7, 12, 13, 14, 15);
    let mut out = fours;
    for i in 0..4 {
        out[i] = _mm512_permutex2var_epi64(fours[i], low, fours[i + 4]);
        out[i + 4] = _mm512_permutex2var_epi64(fours[i], high, fours[i + 4]);
    }
    out
}
