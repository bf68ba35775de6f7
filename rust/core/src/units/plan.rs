//! Owns the way a tensor is cut into tiles of units and items of values. Knows nothing of how sums are made.
//!
//! The cut depends on shape and strides alone, so the thread count never shows in a result.

use crate::memory::path::Run;
use crate::memory::view::TensorView;
use crate::simd::lanes::LANES;

/// Elements that a task reads at least, where there are as many, so that taking a task costs little beside it.
const LEAST_TASK: u64 = 1 << 16;

/// Elements that a task reads at most, where the units can be parted so far.
const MOST_TASK: u64 = 1 << 19;

/// Tasks that a tensor between the two is cut into: enough for as many threads, or for a few of which one is slow.
const TASKS: u64 = 16;

/// Neighbouring elements of an item at least, where there are as many: the hardware reads ahead in straight lines.
const PIECE: u64 = 4096;

/// Longest stretch of a unit's run in one item.
const LONGEST_RUN: u64 = 1 << 16;

/// Most rows in one item, which bounds the rounding error of a column's sum.
const MOST_ROWS: u64 = 4096;

/// Units of a tile of columns: their sums stay in the first-level cache.
const TILE_UNITS: u64 = 256;

/// A tensor as units times values: outer dimensions around slabs of units and runs.
pub(crate) struct Plan {
    pub(crate) start: *const u8,
    pub(crate) units: Run,
    pub(crate) outer: Vec<Run>,
    pub(crate) run: Run,
    /// Whether rows of units are read, rather than runs of values.
    pub(crate) columns: bool,
    /// Units of a tile, values of a unit in one item, items in one task.
    pub(crate) tile: u64,
    pub(crate) stretch: u64,
    pub(crate) items_per_task: u64,
}

// SAFETY: a plan is an address plus numbers; reading through it is vouched for by the view it came from.
unsafe impl Sync for Plan {}

impl Plan {
    pub(crate) fn new(view: &TensorView<'_>, dim: usize) -> Self {
        let strides = view.strides();
        let size = view.dtype().size() as isize;
        let mut start = view.data();
        let mut units = Run { len: 0, stride: 0 };
        let mut dims: Vec<Run> = Vec::with_capacity(strides.len());
        for (i, (&len, stride)) in view.shape().iter().zip(strides).enumerate() {
            if i == dim {
                units = Run { len: len as u64, stride };
            } else if len != 1 {
                // The order of a unit's values does not matter, so each dimension is walked upwards.
                if stride < 0 && view.count() > 0 {
                    start = start.wrapping_offset((len - 1) as isize * stride as isize * size);
                }
                dims.push(Run { len: len as u64, stride: stride.abs() });
            }
        }
        dims.sort_by_key(|d| core::cmp::Reverse(if d.stride == 0 { i64::MAX } else { d.stride }));
        let mut outer = merged(dims);
        let run = outer.pop().unwrap_or(Run { len: 1, stride: 1 });
        Self::cut(start, units, outer, run)
    }

    /// The plans of a tensor and of a mask of its shape, cut alike: an item of one belongs to the same item of the other.
    pub(crate) fn with_mask(view: &TensorView<'_>, dim: usize, mask: *const u8, mask_strides: &[i64]) -> (Self, Self) {
        let (mut start, mut mask_start) = (view.data(), mask);
        let mut units = Joint { len: 0, strides: [0, 0] };
        let mut dims: Vec<Joint> = Vec::with_capacity(mask_strides.len());
        let size = view.dtype().size() as i64;
        let empty = view.shape().contains(&0);
        for (i, ((&len, stride), &mask)) in view.shape().iter().zip(view.strides()).zip(mask_strides).enumerate() {
            let joint = Joint { len: len as u64, strides: [stride, mask] };
            if i == dim {
                units = joint;
            } else if stride < 0 && !empty {
                // Walked upwards, as without a mask; the mask then goes whichever way belongs to it.
                start = start.wrapping_offset(((len - 1) * stride * size) as isize);
                mask_start = mask_start.wrapping_offset(((len - 1) * mask) as isize);
                dims.push(Joint { len: len as u64, strides: [-stride, -mask] });
            } else if len != 1 {
                dims.push(joint);
            }
        }
        dims.sort_by_key(|d| core::cmp::Reverse(if d.strides[0] == 0 { i64::MAX } else { d.strides[0] }));
        let mut merged: Vec<Joint> = Vec::with_capacity(dims.len());
        for dim in dims {
            match merged.last_mut() {
                Some(outer) if outer.continues(dim) => *outer = Joint { len: outer.len * dim.len, ..dim },
                _ => merged.push(dim),
            }
        }
        let run = merged.pop().unwrap_or(Joint { len: 1, strides: [1, 0] });
        let outer = |which: usize| merged.iter().map(|d| d.of(which)).collect();
        let plan = Self::cut(start, units.of(0), outer(0), run.of(0));
        let Self { columns, tile, stretch, items_per_task, .. } = plan;
        let (units, outer, run) = (units.of(1), outer(1), run.of(1));
        let mask = Self { start: mask_start, units, outer, run, columns, tile, stretch, items_per_task };
        (plan, mask)
    }

    /// The sizes of tiles and items.
    fn cut(start: *const u8, units: Run, outer: Vec<Run>, run: Run) -> Self {
        let runs_are_good = run.len >= LANES as u64 && (run.stride == 1 || units.stride != 1);
        let columns = units.len >= LANES as u64 && !runs_are_good;
        let values = run.len * outer.iter().map(|d| d.len).product::<u64>();
        let task = (units.len * values / TASKS).clamp(LEAST_TASK, MOST_TASK);
        let (tile, stretch) = if columns {
            let tile = units.len.clamp(1, TILE_UNITS);
            (tile, even(run.len, (task / tile).min(MOST_ROWS)))
        } else {
            let stretch = run.len.clamp(1, LONGEST_RUN);
            // Whole units rather than parts of more of them, which would have to be put together.
            let least = PIECE.div_ceil(stretch);
            (even(units.len, (task / values.max(1)).max(least)), stretch)
        };
        let items_per_task = (task / (tile * stretch)).max(1);
        Self { start, units, outer, run, columns, tile, stretch, items_per_task }
    }

    pub(crate) fn outer_count(&self) -> u64 {
        self.outer.iter().map(|d| d.len).product()
    }

    /// Number of values of each unit in some items.
    pub(crate) fn values(&self, items: &core::ops::Range<u64>) -> u64 {
        items.clone().map(|item| self.stretch_of(item).1).sum()
    }

    /// First value and length of an item's stretch of the run.
    pub(crate) fn stretch_of(&self, item: u64) -> (u64, u64) {
        let from = item % self.run.len.div_ceil(self.stretch) * self.stretch;
        (from, self.stretch.min(self.run.len - from))
    }

    /// Address of an item's first value of a unit.
    pub(crate) fn address(&self, item: u64, unit: u64, size: usize) -> *const u8 {
        let mut place = item / self.run.len.div_ceil(self.stretch);
        let mut offset = self.stretch_of(item).0 as i64 * self.run.stride + unit as i64 * self.units.stride;
        for dim in self.outer.iter().rev() {
            offset += (place % dim.len) as i64 * dim.stride;
            place /= dim.len;
        }
        self.start.wrapping_offset((offset * size as i64) as isize)
    }
}

/// The length of equal parts of at most `most` each.
fn even(len: u64, most: u64) -> u64 {
    let len = len.max(1);
    len.div_ceil(len.div_ceil(most.max(1)))
}

/// One dimension of a tensor and of its mask.
#[derive(Clone, Copy)]
struct Joint {
    len: u64,
    strides: [i64; 2],
}

impl Joint {
    fn of(self, which: usize) -> Run {
        Run { len: self.len, stride: self.strides[which] }
    }

    /// Whether this dimension goes on where the inner one ends, in tensor and mask.
    fn continues(self, inner: Self) -> bool {
        (0..2).all(|which| self.strides[which] == inner.strides[which].wrapping_mul(inner.len as i64))
    }
}

/// Neighbouring dimensions that together are one.
fn merged(dims: Vec<Run>) -> Vec<Run> {
    let mut merged: Vec<Run> = Vec::with_capacity(dims.len());
    for dim in dims {
        match merged.last_mut() {
            Some(outer) if outer.stride == dim.stride.wrapping_mul(dim.len as i64) => {
                *outer = Run { len: outer.len * dim.len, stride: dim.stride };
            }
            _ => merged.push(dim),
        }
    }
    merged
}
