//! The base fee of the next block (EIP-1559): it follows how full the parent was.

/// A block's gas limit over its target.
pub const ELASTICITY: u64 = 2;
/// The base fee moves by at most this part of itself from block to block.
pub const CHANGE_DENOMINATOR: u128 = 8;

/// The base fee after a block with `base_fee` that used `gas_used` of `gas_limit`; at least `floor`.
///
/// The multiplication cannot overflow on a chain that runs: no transaction pays over `rules::FEE_ABSURD` (2^60) per gas,
/// so a fee above that empties the blocks, and genesis keeps the gas limit below 2^54. Beyond, it saturates.
#[must_use]
pub fn next(base_fee: u128, gas_used: u64, gas_limit: u64, floor: u128) -> u128 {
    let target = u128::from((gas_limit / ELASTICITY).max(1));
    let used = u128::from(gas_used);
    let change = |distance: u128| base_fee.saturating_mul(distance) / target / CHANGE_DENOMINATOR;
    let next = if used > target {
        base_fee.saturating_add(change(used - target).max(1))
    } else {
        base_fee.saturating_sub(change(target - used))
    };
    next.max(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parent base fee, gas used, gas limit, result: worked by hand from the EIP's text.
    const CASES: [(u128, u64, u64, u128); 8] = [
        (1_000_000_000, 10_000_000, 20_000_000, 1_000_000_000), // at the target: unchanged
        (1_000_000_000, 20_000_000, 20_000_000, 1_125_000_000), // full: up an eighth
        (1_000_000_000, 0, 20_000_000, 875_000_000),            // empty: down an eighth
        (1_000_000_000, 9_000_000, 20_000_000, 987_500_000),    // used less than the target
        (1_000_000_000, 11_000_000, 20_000_000, 1_012_500_000), // used more than the target
        (7, 20_000_000, 20_000_000, 8),                         // up by at least 1
        (7, 0, 20_000_000, 7),                                  // 7/8 rounds down to no change
        (0, 20_000_000, 20_000_000, 1),                         // even from zero
    ];

    #[test]
    fn the_eips_cases() {
        for (base_fee, used, limit, want) in CASES {
            assert_eq!(next(base_fee, used, limit, 0), want, "{base_fee} {used} of {limit}");
        }
    }

    /// The EIP's pseudocode, word by word, in signed arithmetic of another shape.
    fn eip(base_fee: i128, used: i128, limit: i128) -> i128 {
        let target = limit / 2;
        if used == target {
            base_fee
        } else if used > target {
            let delta = (base_fee * (used - target) / target / 8).max(1);
            base_fee + delta
        } else {
            base_fee - base_fee * (target - used) / target / 8
        }
    }

    proptest::proptest! {
        #[test]
        fn as_the_eip_says(base_fee in 0u64.., limit in 21_000u64..u64::MAX / 1_024, part in 0u64..=1_000) {
            let used = (u128::from(limit) * u128::from(part) / 1_000) as u64;
            let want = eip(base_fee.into(), used.into(), limit.into()) as u128;
            proptest::prop_assert_eq!(next(base_fee.into(), used, limit, 0), want);
            proptest::prop_assert_eq!(next(base_fee.into(), used, limit, want + 5), want + 5);
        }
    }

    #[test]
    fn no_argument_panics() {
        assert_eq!(next(u128::MAX, u64::MAX, 0, 3), u128::MAX);
        assert!(next(u128::MAX, 0, u64::MAX, 3) > 3);
    }
}
