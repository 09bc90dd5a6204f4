//! The bounded single-producer single-consumer ring that connects two stages; items move through it.
//!
//! ```text
//!   slot i is                    producer                         consumer
//!   EMPTY  -- write item, then tail.store(i+1, Release) --> FULL
//!   FULL   -- tail.load(Acquire) >= i+1, read item, then head.store(i+1, Release) --> EMPTY
//! ```
//!
//! `head` and `tail` count items since construction and wrap; `tail - head` is the depth and never exceeds the
//! capacity. Each side owns its index and keeps a cached copy of the other's, which it refreshes only when the
//! copy says full (producer) or empty (consumer): a refreshed copy can only show more room or more items.
//!
//! Callers' contract: one thread at a time holds each end (`&mut self` enforces it). Dropping both ends drops
//! the items left. A ring whose other end is gone still works on this side; ask `is_abandoned`.
//!
//! The design is FastForward's and MCRingBuffer's cached index (Lee, Bu, Chandranmenon, "A lock-free,
//! cache-efficient multi-core synchronization mechanism", 2010).

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};
use arrayvec::ArrayVec;
use core::mem::{ManuallyDrop, MaybeUninit};
use crossbeam::utils::CachePadded;

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// What both ends and every gauge see.
struct Indices {
    tail: CachePadded<AtomicUsize>,
    head: CachePadded<AtomicUsize>,
    capacity: usize,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
}

impl Indices {
    fn depth(&self) -> usize {
        // The head first: a head read after the tail could have passed it.
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire).wrapping_sub(head).min(self.capacity)
    }
}

/// The memory of the items; dropped by whichever end goes last.
struct Slots<T> {
    cells: Box<[Slot<T>]>,
    indices: Arc<Indices>,
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        let (mut head, tail) =
            (self.indices.head.load(Ordering::Acquire), self.indices.tail.load(Ordering::Acquire));
        while head != tail {
            // SAFETY: both ends are gone (they hold the only references), so no one else touches the cells;
            // the slots in head..tail are FULL by the state diagram, and each is dropped once.
            self.cells[head & (self.cells.len() - 1)].with_mut(|cell| unsafe { (*cell).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

// SAFETY: the cells are reached only through the one Producer and the one Consumer, which by the state diagram
// never touch the same slot at once; items move between threads, hence `T: Send`.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: as above; a shared reference to `Slots` gives no access to an item by itself.
unsafe impl<T: Send> Sync for Slots<T> {}

/// What keeps a ring's memory alive, dropped by value.
///
/// An `Arc` is dropped through its address. Were that an address inside an end, the end would have to stay in memory,
/// and each push and pop would load and store its indices there instead of keeping them in registers.
struct Shared<T> {
    slots: ManuallyDrop<Arc<Slots<T>>>,
    indices: ManuallyDrop<Arc<Indices>>,
}

impl<T> Shared<T> {
    fn of(slots: &Arc<Slots<T>>) -> Shared<T> {
        let indices = ManuallyDrop::new(Arc::clone(&slots.indices));
        Shared { slots: ManuallyDrop::new(Arc::clone(slots)), indices }
    }
}

impl<T> Drop for Shared<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the value is being dropped, so nobody uses the field again.
        let slots = unsafe { ManuallyDrop::take(&mut self.slots) };
        // SAFETY: as above.
        let indices = unsafe { ManuallyDrop::take(&mut self.indices) };
        drop((slots, indices));
    }
}

/// The sending end.
pub struct Producer<T> {
    shared: Shared<T>,
    cells: *const Slot<T>,
    mask: usize,
    tail: usize,
    head_cached: usize,
}

/// The receiving end.
pub struct Consumer<T> {
    shared: Shared<T>,
    cells: *const Slot<T>,
    mask: usize,
    head: usize,
    tail_cached: usize,
}

// SAFETY: the pointer refers to the slots kept alive by `shared`; moving the end to another thread moves the
// only access to its side, and items cross threads only if `T: Send`.
unsafe impl<T: Send> Send for Producer<T> {}
// SAFETY: as for the producer.
unsafe impl<T: Send> Send for Consumer<T> {}

/// A reader of the depth, for metrics on other threads. It holds no item and keeps no end alive.
#[derive(Clone)]
pub struct Gauge {
    indices: Arc<Indices>,
}

impl Gauge {
    /// Items in the ring: exact when both ends rest, else a value that was or is about to be true.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.indices.depth()
    }

    /// Items the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.indices.capacity
    }
}

/// Makes a ring of `capacity` items and allocates all it will ever use.
///
/// # Panics
/// If `capacity` is not a power of two: a ring's depth is set at start-up by the topology.
#[must_use]
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "ring capacity {capacity} is not a power of two; round it up");
    let indices = Arc::new(Indices {
        tail: CachePadded::new(AtomicUsize::new(0)),
        head: CachePadded::new(AtomicUsize::new(0)),
        capacity,
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
    });
    let cells: Box<[Slot<T>]> = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let slots = Arc::new(Slots { cells, indices });
    let (cells, mask) = (slots.cells.as_ptr(), capacity - 1);
    let producer = Producer { shared: Shared::of(&slots), cells, mask, tail: 0, head_cached: 0 };
    (producer, Consumer { shared: Shared::of(&slots), cells, mask, head: 0, tail_cached: 0 })
}

impl<T> Producer<T> {
    /// Free slots, asking the other side only when fewer than `wanted` are known to be free.
    #[inline]
    fn free(&mut self, wanted: usize) -> usize {
        let capacity = self.mask + 1;
        let free = capacity - self.tail.wrapping_sub(self.head_cached);
        if free >= wanted {
            return free;
        }
        self.head_cached = self.shared.indices.head.load(Ordering::Acquire);
        capacity - self.tail.wrapping_sub(self.head_cached)
    }

    /// Writes `item` into the slot of position `at`.
    ///
    /// # Safety
    /// The slot is EMPTY, that is `at - head < capacity`, and its tail is not yet published.
    #[inline(always)]
    unsafe fn write(&self, at: usize, item: T) {
        // SAFETY: `at & mask` is below the capacity, and `self.shared` keeps the cells alive.
        let slot = unsafe { &*self.cells.add(at & self.mask) };
        // SAFETY: the slot is EMPTY (caller), so the consumer does not touch it and no item is overwritten.
        slot.with_mut(|cell| unsafe { (*cell).write(item) });
    }

    /// Sends one item.
    ///
    /// # Errors
    /// Gives the item back when the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.free(1) == 0 {
            return Err(item);
        }
        // SAFETY: one slot is free, so the one at `tail` is EMPTY.
        unsafe { self.write(self.tail, item) };
        self.tail = self.tail.wrapping_add(1);
        self.shared.indices.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Sends as many items from the front of `burst` as fit, in order, and leaves the rest. Returns how many.
    #[inline]
    pub fn push_burst<const N: usize>(&mut self, burst: &mut ArrayVec<T, N>) -> usize {
        let count = burst.len().min(self.free(burst.len()));
        if count == 0 {
            return 0;
        }
        let left = burst.len() - count;
        let source = burst.as_mut_ptr();
        // SAFETY: the items change owner one by one below; with the length at 0 none is dropped twice. Nothing
        // here can panic before the remaining ones are moved to the front and given back.
        unsafe { burst.set_len(0) };
        for offset in 0..count {
            // SAFETY: `offset` is below the burst's old length; `count` slots from `tail` are EMPTY.
            unsafe { self.write(self.tail.wrapping_add(offset), source.add(offset).read()) };
        }
        // SAFETY: source[count..count + left] are the items that did not fit; they are initialised, still owned
        // by the burst, and the move may overlap.
        unsafe {
            core::ptr::copy(source.add(count), source, left);
            burst.set_len(left);
        }
        self.tail = self.tail.wrapping_add(count);
        self.shared.indices.tail.store(self.tail, Ordering::Release);
        count
    }

    /// Slots free now; at least this many pushes succeed.
    pub fn free_slots(&mut self) -> usize {
        self.free(usize::MAX)
    }

    /// Items in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.indices.depth()
    }

    /// Whether the ring is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// Whether the consumer is gone: what is pushed now is never popped.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.shared.indices.consumer_gone.load(Ordering::Acquire)
    }

    /// A depth reader for metrics.
    #[must_use]
    pub fn depth_gauge(&self) -> Gauge {
        Gauge { indices: Arc::clone(&self.shared.indices) }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        debug_assert!(
            core::ptr::eq(self.cells, self.shared.slots.cells.as_ptr()),
            "the slots outlive the end"
        );
        self.shared.indices.producer_gone.store(true, Ordering::Release);
    }
}

impl<T> Consumer<T> {
    /// Items ready, asking the other side only when fewer than `wanted` are known to be.
    #[inline]
    fn ready(&mut self, wanted: usize) -> usize {
        let ready = self.tail_cached.wrapping_sub(self.head);
        if ready >= wanted {
            return ready;
        }
        self.tail_cached = self.shared.indices.tail.load(Ordering::Acquire);
        self.tail_cached.wrapping_sub(self.head)
    }

    /// Moves the item of position `at` out of its slot.
    ///
    /// # Safety
    /// The slot is FULL, that is `head <= at < tail`, and each position is read once.
    #[inline(always)]
    unsafe fn read(&self, at: usize) -> T {
        // SAFETY: `at & mask` is below the capacity, and `self.shared` keeps the cells alive.
        let slot = unsafe { &*self.cells.add(at & self.mask) };
        // SAFETY: the slot is FULL (caller): the Acquire load of the tail made its item visible, and the producer
        // does not touch it before the head passes it.
        slot.with(|cell| unsafe { (*cell).assume_init_read() })
    }

    /// Receives one item; `None` when the ring is empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.ready(1) == 0 {
            return None;
        }
        // SAFETY: one item is ready, so the slot at `head` is FULL; the head moves past it at once.
        let item = unsafe { self.read(self.head) };
        self.head = self.head.wrapping_add(1);
        self.shared.indices.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Receives as many items as are ready and fit, appended to `out` in order. Returns how many.
    #[inline]
    pub fn pop_burst<const N: usize>(&mut self, out: &mut ArrayVec<T, N>) -> usize {
        let room = out.remaining_capacity();
        let count = room.min(self.ready(room));
        if count == 0 {
            return 0;
        }
        let length = out.len();
        let target = out.as_mut_ptr();
        for offset in 0..count {
            // SAFETY: `count` items from `head` are FULL, each is read once, and `out` has room for them all.
            unsafe { target.add(length + offset).write(self.read(self.head.wrapping_add(offset))) };
        }
        // SAFETY: the `count` items after the old length were initialised just above.
        unsafe { out.set_len(length + count) };
        self.head = self.head.wrapping_add(count);
        self.shared.indices.head.store(self.head, Ordering::Release);
        count
    }

    /// Gives up to `max` ready items to `visit`, in order, without a buffer between. Returns how many.
    ///
    /// The slots are released together afterwards; if `visit` panics, those visited so far are released.
    #[inline]
    pub fn pop_each(&mut self, max: usize, mut visit: impl FnMut(T)) -> usize {
        /// Publishes the head on every way out, so that no item is read twice.
        struct Release<'a, T>(&'a mut Consumer<T>);
        impl<T> Drop for Release<'_, T> {
            fn drop(&mut self) {
                self.0.shared.indices.head.store(self.0.head, Ordering::Release);
            }
        }
        let count = max.min(self.ready(max));
        if count == 0 {
            return 0;
        }
        let release = Release(self);
        for _ in 0..count {
            // SAFETY: `count` items are FULL; the head moves past each before anything can panic.
            let item = unsafe { release.0.read(release.0.head) };
            release.0.head = release.0.head.wrapping_add(1);
            visit(item);
        }
        count
    }

    /// Items in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.indices.depth()
    }

    /// Whether the ring is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items the ring can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// Whether the producer is gone: once this is true, an empty ring stays empty.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.shared.indices.producer_gone.load(Ordering::Acquire)
    }

    /// A depth reader for metrics.
    #[must_use]
    pub fn depth_gauge(&self) -> Gauge {
        Gauge { indices: Arc::clone(&self.shared.indices) }
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        debug_assert!(
            core::ptr::eq(self.cells, self.shared.slots.cells.as_ptr()),
            "the slots outlive the end"
        );
        self.shared.indices.consumer_gone.store(true, Ordering::Release);
    }
}
