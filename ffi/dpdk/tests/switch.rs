//! Sixteen validators and eight load clients in one process, joined by a switch that passes pointers by
//! destination address: what a devnet does.

use roko_dpdk::{
    Burst, Eal, EalConfig, MbufPool, PoolConfig, Port, PortConfig, Queues, RingEnd, ring_link, ring_port,
};

const VALIDATORS: usize = 16;
const CLIENTS: usize = 8;
const STATIONS: usize = VALIDATORS + CLIENTS;
const ROUNDS: usize = 50;

/// One station's own side: a true port, or a bare link for a load client.
enum Station {
    Validator { queues: Queues, _port: Port },
    Client(RingEnd),
}

impl Station {
    fn rx(&mut self, burst: &mut Burst) -> usize {
        match self {
            Station::Validator { queues, .. } => queues.rx[0].rx_burst(burst),
            Station::Client(end) => end.rx_burst(burst),
        }
    }

    fn tx(&mut self, burst: &mut Burst) -> usize {
        match self {
            Station::Validator { queues, .. } => queues.tx[0].tx_burst(burst),
            Station::Client(end) => end.tx_burst(burst),
        }
    }
}

fn join(eal: &Eal, pool: &MbufPool, number: usize) -> (Station, RingEnd) {
    if number < VALIDATORS {
        let (mut port, end) = ring_port(eal, &format!("validator{number}"), 256).expect("a port");
        let queues = port.start(&PortConfig::default(), pool).expect("it starts");
        (Station::Validator { queues, _port: port }, end)
    } else {
        let (client, end) = ring_link(eal, &format!("client{number}"), 256).expect("a link");
        (Station::Client(client), end)
    }
}

/// Forwards what waits at every end to the end its sixth byte names; what a full ring refuses is dropped.
fn switch(ends: &mut [RingEnd], inbox: &mut Burst, outbox: &mut [Burst]) -> usize {
    let mut dropped = 0;
    for from in 0..ends.len() {
        ends[from].rx_burst(inbox);
        for mbuf in inbox.drain(..) {
            let to = usize::from(mbuf.data()[5]);
            outbox[to].push(mbuf);
        }
        for (end, burst) in ends.iter_mut().zip(outbox.iter_mut()) {
            if !burst.is_empty() {
                end.tx_burst(burst);
                dropped += burst.len();
                burst.clear();
            }
        }
    }
    dropped
}

#[test]
fn every_station_hears_every_other() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let guard = eal.register_thread().expect("a free lcore");
    let config = PoolConfig { mbufs: 4095, cache_mbufs: 256, ..PoolConfig::default() };
    let pool = eal.pool("frames", &config).expect("a pool");
    let (mut stations, mut ends): (Vec<_>, Vec<_>) =
        (0..STATIONS).map(|number| join(&eal, &pool, number)).unzip();
    let (mut burst, mut inbox) = (Burst::new(), Burst::new());
    let mut outbox: Vec<Burst> = (0..STATIONS).map(|_| Burst::new()).collect();
    let mut heard = [[0_usize; STATIONS]; STATIONS];
    for round in 0..ROUNDS {
        for (from, station) in stations.iter_mut().enumerate() {
            for to in (0..STATIONS).filter(|&to| to != from) {
                let frame = [2, 0, 0, 0, 0, to as u8, 2, 0, 0, 0, 0, from as u8, round as u8];
                burst.push(pool.alloc_from(&frame).expect("the pool is large enough"));
            }
            assert_eq!(station.tx(&mut burst), STATIONS - 1);
        }
        assert_eq!(switch(&mut ends, &mut inbox, &mut outbox), 0, "256 deep is enough for 23 frames");
        for (me, station) in stations.iter_mut().enumerate() {
            while station.rx(&mut burst) > 0 {
                for mbuf in burst.drain(..) {
                    assert_eq!((mbuf.data()[5], mbuf.data()[12]), (me as u8, round as u8));
                    heard[me][usize::from(mbuf.data()[11])] += 1;
                }
            }
        }
    }
    for (me, from_all) in heard.iter().enumerate() {
        for (from, &count) in from_all.iter().enumerate() {
            assert_eq!(count, if from == me { 0 } else { ROUNDS }, "{me} from {from}");
        }
    }
    drop((stations, ends));
    assert_eq!(pool.available_count(), pool.count());
    drop((pool, guard));
    eal.shutdown().expect("nothing is held");
}
