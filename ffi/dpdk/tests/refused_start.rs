//! A start that DPDK refuses says with which arguments, and is the process's only one.

use roko_dpdk::{Eal, EalConfig, Error};

#[test]
fn a_refused_start_shows_its_arguments() {
    let refused = Eal::start(&EalConfig::unprivileged(u32::MAX)).expect_err("4 PiB of memory");
    let Error::EalStart { arguments, .. } = &refused else { panic!("{refused}") };
    assert!(arguments.contains("-m 4294967295"), "{refused}");
    assert!(refused.to_string().contains("start a new process"), "{refused}");
    assert_eq!(Eal::start(&EalConfig::unprivileged(64)).expect_err("once"), Error::EalStartedBefore);
}
