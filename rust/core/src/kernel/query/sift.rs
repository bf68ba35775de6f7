//! Owns the look through a block for the values inside a few intervals, which are then kept or counted. Knows nothing of tensors, dtypes
//! or threads.
//!
//! A value is known by its key: an unsigned integer that orders as the values do. The search tests all of a group against every interval
//! without a branch; that few values are inside is what makes it fast.

use crate::simd::keys::{KeyBits, Keyed};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::level::{Kernel, Level};

/// Keys that are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First key.
    pub low: u64,
    /// How many keys from it on.
    pub width: u64,
    /// How many bits of the distance from `low` share a counter.
    pub shift: u32,
    /// The first of its counters.
    pub counter: usize,
}

impl Interval {
    /// How many counters it needs.
    pub fn counters(&self) -> usize {
        (self.width.saturating_sub(1) >> self.shift) as usize + 1
    }
}

/// What is done with the values found.
#[derive(Clone, Debug)]
pub enum Found {
    /// Their keys are kept, as many as the vector was made for.
    Kept(Vec<u64>),
    /// They are counted: the counters of all intervals, one interval after the other.
    Counted(Vec<u64>),
    /// The smallest and the largest key of each interval; the first above the second where none was found.
    Bounds(Vec<(u64, u64)>),
}

/// The search of one thread.
#[derive(Clone, Debug)]
pub struct Sieve {
    intervals: Vec<Interval>,
    /// What was found so far.
    pub found: Found,
}

impl Sieve {
    /// Nothing found yet. The intervals must not overlap.
    pub fn new(intervals: Vec<Interval>, found: Found) -> Self {
        Self { intervals, found }
    }

    /// Looks through a block.
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned.
    pub unsafe fn block<T: Keyed>(&mut self, level: Level, p: *const T, len: usize) {
        if let Found::Bounds(bounds) = &mut self.found {
            for (interval, found) in self.intervals.iter().zip(bounds) {
                let (low, high) = level.run(BoundsKernel { p, len, interval });
                *found = (found.0.min(low), found.1.max(high));
            }
            return;
        }
        level.run(SieveKernel { p, len, sieve: self });
    }

    fn take(&mut self, key: u64) {
        let Some(interval) = self.intervals.iter().find(|i| key.wrapping_sub(i.low) < i.width) else { return };
        match &mut self.found {
            Found::Kept(keys) if keys.len() < keys.capacity() => keys.push(key),
            Found::Kept(_) | Found::Bounds(_) => {}
            Found::Counted(counts) => {
                let place = interval.counter + ((key - interval.low) >> interval.shift) as usize;
                if let Some(count) = counts.get_mut(place) {
                    *count += 1;
                }
            }
        }
    }
}

/// The smallest and the largest key of one interval.
struct BoundsKernel<'a, T> {
    p: *const T,
    len: usize,
    interval: &'a Interval,
}

impl<T: Keyed> Kernel for BoundsKernel<'_, T> {
    type Output = (u64, u64);

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> (u64, u64) {
        let Self { p, len, interval } = self;
        let low = T::Key::narrow(interval.low);
        let last = T::Key::narrow(interval.width.saturating_sub(1));
        // Distances from `low`, in lanes: what is outside is further away than the last one.
        let (mut nearest, mut furthest) = ([T::Key::LAST; LANES], [T::Key::default(); LANES]);
        let mut look = |lane: usize, x: T| {
            let distance = x.key().distance_from(low);
            let inside = distance <= last;
            nearest[lane] = nearest[lane].min(distance);
            furthest[lane] = furthest[lane].max(if inside { distance } else { T::Key::default() });
        };
        let whole = len - len % LANES;
        for start in (0..whole).step_by(LANES) {
            // SAFETY: `Sieve::block` vouches for `len` elements; an array is as readable as its elements.
            let values = unsafe { p.add(start).cast::<[T; LANES]>().read_unaligned() };
            for (lane, &x) in values.iter().enumerate() {
                look(lane, x);
            }
        }
        for i in whole..len {
            // SAFETY: as above.
            look(i - whole, unsafe { p.add(i).read_unaligned() });
        }
        let nearest = nearest.into_iter().fold(T::Key::LAST, Ord::min);
        let furthest = furthest.into_iter().fold(T::Key::default(), Ord::max);
        if nearest > last {
            return (u64::MAX, 0);
        }
        (interval.low + nearest.wide(), interval.low + furthest.wide())
    }
}

/// Values looked at together.
const GROUP: usize = 64;

struct SieveKernel<'a, T> {
    p: *const T,
    len: usize,
    sieve: &'a mut Sieve,
}

impl<T: Keyed> Kernel for SieveKernel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let Self { p, len, sieve } = self;
        let mut keys = [T::Key::default(); GROUP];
        let mut start = 0;
        while start < len {
            let count = GROUP.min(len - start);
            if count == GROUP {
                for (i, key) in keys.iter_mut().enumerate() {
                    // SAFETY: `Sieve::block` vouches for `len` elements.
                    *key = unsafe { p.add(start + i).read_unaligned() }.key();
                }
            } else {
                for (i, key) in keys.iter_mut().enumerate().take(count) {
                    // SAFETY: as above.
                    *key = unsafe { p.add(start + i).read_unaligned() }.key();
                }
            }
            let mut inside = [T::Key::default(); GROUP];
            for interval in &sieve.intervals {
                let (low, width) = (T::Key::narrow(interval.low), T::Key::narrow(interval.width));
                for (hit, key) in inside.iter_mut().zip(&keys) {
                    *hit = hit.or(key.inside(low, width));
                }
            }
            let any = inside.iter().fold(T::Key::default(), |any, &hit| any.or(hit));
            if any != T::Key::default() {
                for (key, hit) in keys.iter().zip(&inside).take(count) {
                    if *hit != T::Key::default() {
                        sieve.take(key.wide());
                    }
                }
            }
            start += count;
        }
    }
}
