//! A measurement, to be run by hand: `cargo test --release -p roko-ed25519 speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

const MESSAGE: [u8; 300] = [7; 300];

/// The median nanoseconds of many runs.
fn median(mut work: impl FnMut()) -> u128 {
    let mut times: Vec<_> = (0..2001)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let start = Instant::now();
    prepare();
    println!("{}; tables built in {} us", method(), start.elapsed().as_micros());
    let cases: Vec<_> = (0..LANES as u8).map(|i| Case::signed([i; 32], MESSAGE.to_vec())).collect();
    let checks: Vec<_> = cases.iter().map(Case::check).collect();
    let key = VerificationKey::try_from(cases[0].key).expect("a key");
    let signature = Signature::from(cases[0].signature);
    for _ in 0..5 {
        let single = median(|| assert!(key.verify(&signature, &MESSAGE).is_ok()));
        println!("ed25519-zebra with the key decompressed: {single} ns");
        #[cfg(target_arch = "x86_64")]
        for n in [1, 2, 3, 4, 6, 8].into_iter().filter(|_| method() == Method::Avx512Ifma) {
            // SAFETY: the method says that the CPU has the features that the lanes are compiled for.
            let total =
                median(|| assert_eq!(unsafe { lanes::verify(&checks[..n]) }.holds, u8::MAX >> (LANES - n)));
            println!("{n} checks: {} ns a signature, {total} ns in all", total / n as u128);
        }
    }
}
