//! Owns the two quicker ways of counting a block: pairs of ranks, and slots of cells. Knows nothing of tensors, dtypes or threads.
//!
//! An increment is a store, and a core stores about once a cycle: on big tensors that is the limit. Pairs count two values with one
//! increment; slots leave the search for the rank to the adding up.

use core::mem::MaybeUninit;

use crate::axis::cells::Cells;
use crate::axis::narrow::Narrow;
use crate::kernel::grid::BLOCK;
use crate::kernel::histogram::ranks::FASTER_COPIES;
use crate::simd::prefetch::{LINE, prefetch};
use crate::simd::wide::Wide;

/// Values whose bins are computed together. With fewer, computing and counting do not overlap.
pub(super) const GROUP: usize = 128;

/// The first values of the groups of a block that are still to be counted.
pub(super) struct Groups {
    starts: [u16; BLOCK / GROUP],
    count: usize,
}

impl Groups {
    /// None of them.
    fn none() -> Self {
        Self { starts: [0; BLOCK / GROUP], count: 0 }
    }

    /// Of a block of `len` values, at most [`BLOCK`].
    #[inline(always)]
    pub(super) fn all(len: usize) -> Self {
        let mut groups = Self::none();
        for start in (0..len).step_by(GROUP) {
            groups.push(start);
        }
        groups
    }

    #[inline(always)]
    fn push(&mut self, start: usize) {
        if let Some(slot) = self.starts.get_mut(self.count) {
            *slot = start as u16;
            self.count += 1;
        }
    }

    #[inline(always)]
    pub(super) fn starts(&self) -> &[u16] {
        &self.starts[..self.count]
    }
}

/// Room for what is computed for a group; clearing it first would cost as many stores again.
pub(super) type Room<const N: usize> = MaybeUninit<[u32; N]>;

/// Asks for the memory that is counted a little later: counting leaves it idle for so long that the hardware does not read ahead by itself.
#[inline(always)]
pub(super) fn prefetch_group<W>(group: *const W, ahead: usize) {
    for line in 0..GROUP * size_of::<W>() / LINE {
        prefetch(group.wrapping_byte_add(ahead + line * LINE));
    }
}

/// Counts the ranks of a block two by two; returns the groups in which a rank is in doubt or a value not finite, which are not counted.
///
/// # Safety
/// `p` must be readable for `len` elements, at most [`BLOCK`]; `table` must hold [`FASTER_COPIES`] counters for each of `slots * slots` pairs,
/// where `slots` is two more than there are bins.
#[inline(always)]
pub(super) unsafe fn count_pairs(
    p: *const f32,
    len: usize,
    narrow: &Narrow,
    slots: usize,
    table: &mut [u32],
    ahead: usize,
) -> Groups {
    let mut doubted = Groups::none();
    let whole = len - len % GROUP;
    let mut start = 0;
    while start < whole {
        let group = p.wrapping_add(start);
        prefetch_group(group, ahead);
        let mut ranks = Room::<GROUP>::uninit();
        // SAFETY: the group lies inside the block.
        if unsafe { narrow_ranks(group, narrow, &mut ranks) } {
            doubted.push(start);
        } else {
            // SAFETY: `narrow_ranks` wrote all of them; ranks are below `slots`.
            unsafe { increment_pairs(ranks.assume_init_ref(), slots as u32, table) };
        }
        start += GROUP;
    }
    if whole < len {
        doubted.push(whole);
    }
    doubted
}

/// Writes the ranks of a group; `true` when one of them is in doubt or a value is not finite.
///
/// # Safety
/// `group` must be readable for [`GROUP`] elements.
#[inline(always)]
unsafe fn narrow_ranks(group: *const f32, narrow: &Narrow, ranks: &mut Room<GROUP>) -> bool {
    // Beyond this an f32 has no fraction: adding and subtracting it rounds to a whole number.
    const WHOLE: f32 = 8_388_608.0;
    let slots: *mut u32 = ranks.as_mut_ptr().cast();
    let (mut doubted, mut largest) = (0_u32, 0_u32);
    for i in 0..GROUP {
        // SAFETY: inside the group.
        let x = unsafe { group.add(i).read_unaligned() };
        let t = x * narrow.scale + narrow.offset;
        // NaN goes to the first rank; it is found by its bits.
        let t = if t > 0.5 { t } else { 0.5 };
        let t = if t < narrow.top { t } else { narrow.top };
        let nearest = (t + WHOLE) - WHOLE;
        doubted |= u32::from(((t - nearest).abs() <= narrow.doubt) & (x != narrow.trusted));
        largest = largest.max(x.to_bits() << 1);
        // SAFETY: inside the array; `t` is clamped to the ranks.
        unsafe { slots.add(i).write(t.to_int_unchecked::<i32>() as u32) };
    }
    doubted != 0 || largest >= f32::INFINITY.to_bits() << 1
}

/// # Safety
/// Ranks must be below `slots`, and `table` must hold [`FASTER_COPIES`] counters for each pair.
#[inline(always)]
unsafe fn increment_pairs(ranks: &[u32; GROUP], slots: u32, table: &mut [u32]) {
    const HALF: usize = GROUP / 2;
    let mut pairs = Room::<HALF>::uninit();
    let places: *mut u32 = pairs.as_mut_ptr().cast();
    for i in 0..HALF {
        // SAFETY: inside the array.
        unsafe { places.add(i).write((ranks[i] * slots + ranks[i + HALF]) * FASTER_COPIES as u32) };
    }
    // SAFETY: all of them were just written.
    let (eights, _) = unsafe { pairs.assume_init_ref() }.as_chunks::<8>();
    for eight in eights {
        for (i, &place) in eight.iter().enumerate() {
            // SAFETY: the caller vouches for ranks and table.
            unsafe { *table.get_unchecked_mut(place as usize + i % FASTER_COPIES) += 1 };
        }
    }
}

/// Counts a block by the slots of cells; returns how many values are not finite.
///
/// # Safety
/// `p` must be readable for `len` elements; `table` must hold [`FASTER_COPIES`] counters for each slot of `cells`.
#[inline(always)]
pub(super) unsafe fn count_cells<W: Wide>(
    p: *const W,
    len: usize,
    cells: &Cells,
    table: &mut [u32],
    ahead: usize,
) -> u32 {
    let dividing = cells.dividing.as_slice();
    let (shift, width) = (cells.shift, cells.width);
    let (lowest, highest) = (cells.smallest, cells.smallest + cells.width - 1);
    let cell = |x: W| {
        let step = x.leading(shift, 0).max(lowest).min(highest) - lowest;
        // `width + step`, or below zero `width - 1 - step`. Not by the sign bit: -0 is not below zero, and NaN goes to the last cell.
        width.wrapping_add(step ^ if x < W::ZERO { u32::MAX } else { 0 })
    };
    let mut increment = |cell: u32, x: W, copy: usize| {
        // SAFETY: a cell is below `2 * width`, for which there are as many edges, and two slots of counters.
        unsafe {
            let slot = 2 * cell as usize + usize::from(x.to_f64() >= *dividing.get_unchecked(cell as usize));
            *table.get_unchecked_mut(slot * FASTER_COPIES + copy % FASTER_COPIES) += 1;
        }
    };
    let mut nonfinite = 0;
    let whole = len - len % GROUP;
    let mut start = 0;
    while start < whole {
        let group = p.wrapping_add(start);
        prefetch_group(group, ahead);
        let mut found = Room::<GROUP>::uninit();
        let places: *mut u32 = found.as_mut_ptr().cast();
        for i in 0..GROUP {
            // SAFETY: inside the group and the array.
            unsafe {
                let x = group.add(i).read_unaligned();
                nonfinite += u32::from(x.magnitude() >= W::INFINITY);
                places.add(i).write(cell(x));
            }
        }
        // SAFETY: all of them were just written.
        let (eights, _) = unsafe { found.assume_init_ref() }.as_chunks::<8>();
        for (j, eight) in eights.iter().enumerate() {
            for (i, &cell) in eight.iter().enumerate() {
                // SAFETY: inside the group.
                increment(cell, unsafe { group.add(8 * j + i).read_unaligned() }, i);
            }
        }
        start += GROUP;
    }
    for i in whole..len {
        // SAFETY: inside the block.
        let x = unsafe { p.add(i).read_unaligned() };
        nonfinite += u32::from(x.magnitude() >= W::INFINITY);
        increment(cell(x), x, i);
    }
    nonfinite
}
