//! An mbuf's frame against a model: a deque of bytes with room in front and behind.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use roko_dpdk::{Eal, EalConfig, Error, Mbuf, MbufPool, PoolConfig};

const HEADROOM: usize = 128;
const ROOM: usize = 512;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    TrimFront(usize),
    SetLen(usize),
    Overwrite(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Step::Append),
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(Step::Prepend),
        (0_usize..400).prop_map(Step::TrimFront),
        (0_usize..700).prop_map(Step::SetLen),
        any::<u8>().prop_map(Step::Overwrite),
        Just(Step::Clear),
    ]
}

/// The whole buffer and where the frame lies in it.
struct Model {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl Model {
    fn frame(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    /// Does the step to both and checks that they agree on whether it fits.
    fn apply(&mut self, mbuf: &mut Mbuf, step: &Step) {
        let tail = self.buffer.len() - self.start - self.len;
        match step {
            Step::Append(bytes) => {
                let fits = bytes.len() <= tail;
                assert_eq!(mbuf.extend_from_slice(bytes).is_ok(), fits);
                if fits {
                    let end = self.start + self.len;
                    self.buffer[end..end + bytes.len()].copy_from_slice(bytes);
                    self.len += bytes.len();
                }
            }
            Step::Prepend(bytes) => match mbuf.prepend(bytes.len()) {
                Ok(front) => {
                    front.copy_from_slice(bytes);
                    self.start -= bytes.len();
                    self.len += bytes.len();
                    self.buffer[self.start..self.start + bytes.len()].copy_from_slice(bytes);
                }
                Err(error) => {
                    assert_eq!(error, Error::NoRoom { wanted_bytes: bytes.len(), room_bytes: self.start })
                }
            },
            Step::TrimFront(bytes) => {
                mbuf.trim_front(*bytes);
                let bytes = (*bytes).min(self.len);
                self.start += bytes;
                self.len -= bytes;
            }
            Step::SetLen(bytes) => {
                let fits = *bytes <= self.len + tail;
                assert_eq!(mbuf.set_len(*bytes).is_ok(), fits);
                if fits {
                    self.len = *bytes;
                }
            }
            Step::Overwrite(byte) => {
                mbuf.data_mut().fill(*byte);
                let (start, len) = (self.start, self.len);
                self.buffer[start..start + len].fill(*byte);
            }
            Step::Clear => {
                mbuf.clear();
                (self.start, self.len) = (HEADROOM, 0);
            }
        }
    }
}

fn follows_the_model(pool: &MbufPool, steps: &[Step]) {
    let mut mbuf = pool.alloc().expect("the pool is never empty here");
    assert_eq!((mbuf.len(), mbuf.headroom(), mbuf.buffer_len()), (0, HEADROOM, HEADROOM + ROOM));
    // The buffer holds what its last user left, so the model starts from a known content.
    mbuf.prepend(HEADROOM).expect("the head room").fill(0);
    mbuf.append(ROOM).expect("the rest").fill(0);
    mbuf.clear();
    let mut model = Model { buffer: vec![0; HEADROOM + ROOM], start: HEADROOM, len: 0 };
    for step in steps {
        model.apply(&mut mbuf, step);
        assert_eq!(mbuf.data(), model.frame());
        assert_eq!(mbuf.is_empty(), model.len == 0);
        assert_eq!(mbuf.headroom() + mbuf.len() + mbuf.tailroom(), mbuf.buffer_len());
    }
}

#[test]
fn a_frame_follows_its_model() {
    let eal = Eal::start(&EalConfig::unprivileged(64)).expect("EAL without privilege");
    let config =
        PoolConfig { mbufs: 63, cache_mbufs: 0, data_room_bytes: (HEADROOM + ROOM) as u16, packed: false };
    let pool = eal.pool("frames", &config).expect("a small pool");
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let steps = proptest::collection::vec(step(), 0..40);
    runner
        .run(&steps, |steps| {
            follows_the_model(&pool, &steps);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(size_of::<Option<Mbuf>>(), size_of::<usize>(), "an mbuf is one pointer");
    assert_eq!(pool.available_count(), pool.count());
}
