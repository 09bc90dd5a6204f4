//! SHA-512 (FIPS 180-4) of eight messages at once, each R || A || M of a check. A lane whose message has ended keeps its
//! state while the longer ones go on.

use core::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_loadu_si512, _mm512_mask_add_epi64, _mm512_ror_epi64,
    _mm512_set1_epi64, _mm512_set4_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi64,
    _mm512_ternarylogic_epi64,
};

use super::LANES;
use super::vector::{lanes_of, transpose};
use crate::Check;

/// The bytes of a block.
const BLOCK: usize = 128;
/// The bytes of R || A.
const PREFIX: usize = 64;
/// The padding's first byte and the message length in bits.
const PADDING: usize = 17;

/// The initial hash value (FIPS 180-4, 5.3.5).
const INITIAL: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The round constants (FIPS 180-4, 4.2.3).
const K: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];

/// The hash of R || A || M in each lane, as its eight words.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
pub(super) fn hash(checks: &[&Check<'_>; LANES]) -> [[u64; LANES]; 8] {
    let mut state = [_mm512_setzero_si512(); 8];
    for (word, initial) in state.iter_mut().zip(INITIAL) {
        *word = _mm512_set1_epi64(initial.cast_signed());
    }
    let mut blocks = [0; LANES];
    let mut most = 0;
    for (count, check) in blocks.iter_mut().zip(checks) {
        *count = blocks_of(check);
        most = most.max(*count);
    }
    for index in 0..most {
        let mut live = 0;
        let mut low = [_mm512_setzero_si512(); LANES];
        let mut high = low;
        for lane in 0..LANES {
            if index < blocks[lane] {
                live |= 1 << lane;
                [low[lane], high[lane]] = load(&block(checks[lane], index));
            }
        }
        let mut w = [_mm512_setzero_si512(); 16];
        w[..8].copy_from_slice(&transpose(&low));
        w[8..].copy_from_slice(&transpose(&high));
        let next = compress(&state, &mut w);
        for (word, next) in state.iter_mut().zip(next) {
            *word = _mm512_mask_add_epi64(*word, live, *word, next);
        }
    }
    let mut words = [[0; LANES]; 8];
    for (words, word) in words.iter_mut().zip(state) {
        *words = lanes_of(word);
    }
    words
}

fn blocks_of(check: &Check<'_>) -> usize {
    // A slice is at most isize::MAX bytes, so that this does not overflow.
    (check.message.len() + PREFIX + PADDING).div_ceil(BLOCK)
}

/// Block `index` of the padded R || A || M.
#[inline]
fn block(check: &Check<'_>, index: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (from, at) = if index == 0 {
        block[..32].copy_from_slice(check.nonce());
        block[32..PREFIX].copy_from_slice(check.key);
        (0, PREFIX)
    } else {
        (index * BLOCK - PREFIX, 0)
    };
    let rest = check.message.get(from..).unwrap_or_default();
    let space = &mut block[at..];
    if rest.len() >= space.len() {
        space.copy_from_slice(&rest[..space.len()]);
        return block;
    }
    space[..rest.len()].copy_from_slice(rest);
    // The one bit follows the message at once: here, unless the message ended with the block before.
    if from <= check.message.len() {
        space[rest.len()] = 0x80;
    }
    if index + 1 == blocks_of(check) {
        let bits = (check.message.len() + PREFIX) as u128 * 8;
        block[BLOCK - 16..].copy_from_slice(&bits.to_be_bytes());
    }
    block
}

/// The sixteen big-endian words of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn load(block: &[u8; BLOCK]) -> [__m512i; 2] {
    let swap = _mm512_set4_epi64(
        0x0809_0a0b_0c0d_0e0f,
        0x0001_0203_0405_0607,
        0x0809_0a0b_0c0d_0e0f,
        0x0001_0203_0405_0607,
    );
    let (halves, _) = block.as_chunks::<64>();
    let mut words = [_mm512_setzero_si512(); 2];
    for (words, half) in words.iter_mut().zip(halves) {
        // SAFETY: the reference is to the 64 bytes that are loaded, and the load asks for no alignment.
        let bytes = unsafe { _mm512_loadu_si512(half.as_ptr().cast()) };
        *words = _mm512_shuffle_epi8(bytes, swap);
    }
    words
}

/// The working variables after the 80 rounds; `w` is the block, and is used up.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn compress(state: &[__m512i; 8], w: &mut [__m512i; 16]) -> [__m512i; 8] {
    let mut v = *state;
    for (sixteen, k) in K.as_chunks::<16>().0.iter().enumerate() {
        if sixteen > 0 {
            schedule(w);
        }
        for i in [0, 8] {
            v = eight_rounds(v, w, k, i);
        }
    }
    v
}

/// The next sixteen words of the message schedule, in place.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn schedule(w: &mut [__m512i; 16]) {
    for t in 0..16 {
        let (early, late) = (w[(t + 1) % 16], w[(t + 14) % 16]);
        let small0 =
            xor3(_mm512_ror_epi64::<1>(early), _mm512_ror_epi64::<8>(early), _mm512_srli_epi64(early, 7));
        let small1 =
            xor3(_mm512_ror_epi64::<19>(late), _mm512_ror_epi64::<61>(late), _mm512_srli_epi64(late, 6));
        let sum = _mm512_add_epi64(w[t], w[(t + 9) % 16]);
        w[t] = _mm512_add_epi64(sum, _mm512_add_epi64(small0, small1));
    }
}

/// Eight rounds, after which every variable is back in its place.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn eight_rounds(v: [__m512i; 8], w: &[__m512i; 16], k: &[u64; 16], from: usize) -> [__m512i; 8] {
    /// Immediates of the ternary logic: the choice of e between f and g, and the majority.
    const CHOICE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = v;
    for t in from..from + 8 {
        let kw = _mm512_add_epi64(_mm512_set1_epi64(k[t].cast_signed()), w[t]);
        let big1 = xor3(_mm512_ror_epi64::<14>(e), _mm512_ror_epi64::<18>(e), _mm512_ror_epi64::<41>(e));
        let big0 = xor3(_mm512_ror_epi64::<28>(a), _mm512_ror_epi64::<34>(a), _mm512_ror_epi64::<39>(a));
        let choice = _mm512_ternarylogic_epi64::<CHOICE>(e, f, g);
        let majority = _mm512_ternarylogic_epi64::<MAJORITY>(a, b, c);
        let first = _mm512_add_epi64(_mm512_add_epi64(h, kw), _mm512_add_epi64(big1, choice));
        let second = _mm512_add_epi64(big0, majority);
        (h, g, f, e) = (g, f, e, _mm512_add_epi64(d, first));
        (d, c, b, a) = (c, b, a, _mm512_add_epi64(first, second));
    }
    [a, b, c, d, e, f, g, h]
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw,avx512cd")]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    const XOR: i32 = 0x96;
    _mm512_ternarylogic_epi64::<XOR>(a, b, c)
}
