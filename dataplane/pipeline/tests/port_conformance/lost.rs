//! A device that is taken away while its port is polled: the port goes on, receives nothing, and keeps or loses what it is given,
//! as it says. The device's link is down.

use crate::dpdk::start;
use roko_dpdk::{Eal, PoolConfig, vdev_port};
use roko_os::link::DeviceLink;
use roko_os::netns::{Device, Namespace};
use roko_pipeline::port::{Burst, Port, RxPort, TxPort};

/// Bursts after the loss.
const BURSTS: usize = 200;
const FRAMES: usize = 8;

/// Sockets of `driver` at both ends of a virtual cable that is deleted.
pub(crate) fn cable(eal: &Eal, driver: &'static str, number: usize) {
    let namespace = match Namespace::create("lost") {
        Ok(namespace) => namespace,
        Err(refusal) => return eprintln!("skipped: {driver} without its device: {refusal}"),
    };
    namespace.join(&Device::silent("left"), &namespace, &Device::silent("right")).expect("a cable");
    let config = PoolConfig { mbufs: 8_191, cache_mbufs: 0, packed: true, ..PoolConfig::default() };
    let pool = eal.pool(&format!("{driver}.lost"), &config).expect("a pool");
    let arguments = match driver {
        "net_af_packet" => "iface=left,framecnt=64,qdisc_bypass=1",
        _ => "iface=left,start_queue=0,queue_count=1",
    };
    let made = namespace.within(|| {
        let mut left = vdev_port(eal, &format!("{driver}{number}"), arguments)?;
        let port = start(&mut left, &pool, driver);
        Ok::<_, roko_dpdk::Error>((left, port))
    });
    let (device, port) = match made.expect("the namespace is ours") {
        Ok(made) => made,
        Err(refusal) => return eprintln!("skipped: {driver} without its device: {refusal}"),
    };
    let (mut rx, mut tx, pool) = port.split();
    let mut offer = || {
        let mut burst: Burst<_> =
            (0..FRAMES).map(|_| pool.alloc_from(&[0xff; 60]).expect("a frame is free")).collect();
        let sent = tx.tx_burst(&mut burst);
        assert_eq!(burst.len(), FRAMES - sent, "what was not taken is left");
    };
    offer();
    let link =
        namespace.within(|| DeviceLink::new("left")).expect("the namespace is ours").expect("a socket");
    assert!(link.is_up());
    namespace.ip_line("link delete left").expect("it is ours");
    for _ in 0..BURSTS {
        offer();
        let mut burst = Burst::new();
        rx.rx_burst(&mut burst);
    }
    assert!(!link.is_up());
    let stats = device.stats().expect("it counts");
    eprintln!("{driver} after the loss of its device: {stats:?}");
    assert!(stats.tx_errors > 0, "{driver} counts what it cannot send");
    drop((rx, tx, device));
    if driver == "net_af_packet" {
        assert_eq!(pool.available_count(), pool.count(), "every mbuf is back");
    }
}
