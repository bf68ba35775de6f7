//! Owns the choice of a tensor's elements by a mask: where the chosen ones are, and how they become dense memory in index order. Knows
//! nothing of what is counted.

use crate::dtype::element::{Bool, Element};
use crate::kernel::BLOCK;
use crate::kernel::query::select::{SLACK, count_selected, select};
use crate::memory::path::Path;
use crate::parallel::scan::{Options, ordered};
use crate::simd::level::Level;

/// Positions of a segment, more where there would be more segments than [`MOST_SEGMENTS`].
const SEGMENT: u64 = 8192;

/// Bounds the memory for the counts of chosen elements, 8 bytes each.
const MOST_SEGMENTS: u64 = 1 << 18;

/// Segments that one task counts: a million positions.
const SEGMENTS_PER_TASK: u64 = 128;

/// The elements of a tensor for which a mask is true, as a walk.
#[derive(Debug)]
pub struct Selection {
    x: Path,
    mask: Path,
    /// First byte of the mask, and its strides along the dimensions of the tensor: 0 where it is repeated.
    mask_start: *const u8,
    mask_strides: Vec<i64>,
    level: Level,
    segment: u64,
    /// How many elements are chosen before each segment; one more entry for all.
    before: Vec<u64>,
}

// SAFETY: addresses plus numbers; whoever made the views vouched that the memory may be read from any thread while they live.
unsafe impl Send for Selection {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for Selection {}

impl Selection {
    /// Counts the chosen elements of `x`; `mask` is as long, and true where they are chosen.
    pub(crate) fn new(
        x: Path,
        mask: Path,
        mask_start: *const u8,
        mask_strides: Vec<i64>,
        options: &Options<'_>,
    ) -> Self {
        let positions = x.count();
        let segment = SEGMENT.max(positions.div_ceil(MOST_SEGMENTS).next_power_of_two());
        let level = options.level;
        let mut before = vec![0];
        let segments = positions.div_ceil(segment);
        let task = |stage: &mut Vec<Bool>, task: usize| {
            let first = task as u64 * SEGMENTS_PER_TASK;
            let count = |index: u64| {
                let (mut from, end) = (index * segment, positions.min((index + 1) * segment));
                let mut found = 0;
                while from < end {
                    let len = (end - from).min(BLOCK as u64) as usize;
                    // SAFETY: the mask is borrowed, of bytes, and has as many as there are positions.
                    found += unsafe { count_selected(level, mask.dense::<Bool>(from, len, stage).cast(), len) };
                    from += len as u64;
                }
                found
            };
            (first..segments.min(first + SEGMENTS_PER_TASK)).map(count).collect::<Vec<u64>>()
        };
        let tasks = segments.div_ceil(SEGMENTS_PER_TASK) as usize;
        let mut total = 0;
        ordered(tasks, &options.for_bytes(positions), Vec::new, task, |counts| {
            for count in counts {
                total += count;
                before.push(total);
            }
        });
        Self { x, mask, mask_start, mask_strides, level, segment, before }
    }

    /// How many elements are chosen.
    pub(crate) fn count(&self) -> u64 {
        self.before.last().copied().unwrap_or(0)
    }

    /// First byte and strides of the mask, repeated to the tensor's shape.
    pub(crate) fn mask(&self) -> (*const u8, &[i64]) {
        (self.mask_start, &self.mask_strides)
    }

    /// Chosen elements `[from, from + len)` as dense memory; as [`Path::dense`].
    ///
    /// # Safety
    /// As for [`Path::dense`], for tensor and mask.
    pub(crate) unsafe fn dense<E: Element>(&self, from: u64, len: usize, stage: &mut Vec<E>) -> *const E {
        let first = self.before.partition_point(|&before| before <= from).saturating_sub(1);
        let (mut position, mut skip) = (first as u64 * self.segment, from - self.before[first]);
        if let Some(position) = self.run(first, skip, len) {
            // SAFETY: these positions are inside the tensor.
            return unsafe { self.x.dense(position, len, stage) };
        }
        stage.clear();
        stage.reserve(len + BLOCK + SLACK);
        let (mut mask_stage, mut x_stage) = (Vec::<Bool>::new(), Vec::<E>::new());
        while stage.len() < len && position < self.x.count() {
            let n = (self.x.count() - position).min(BLOCK as u64) as usize;
            // SAFETY: the block is inside tensor and mask, which the caller keeps alive; `len`, a block and the slack were reserved, and
            // before the block there are fewer than `len`.
            unsafe {
                let mask = self.mask.dense::<Bool>(position, n, &mut mask_stage).cast::<u8>();
                let chosen = count_selected(self.level, mask, n);
                if chosen <= skip {
                    // Nothing of it is wanted: its elements are not even read.
                    skip -= chosen;
                } else {
                    let p = self.x.dense::<E>(position, n, &mut x_stage);
                    let out = stage.as_mut_ptr().add(stage.len());
                    let found = select(self.level, p, mask, n, out);
                    let unwanted = (skip as usize).min(found);
                    core::ptr::copy(out.add(unwanted), out, found - unwanted);
                    stage.set_len(stage.len() + found - unwanted);
                    skip = 0;
                }
            }
            position += n as u64;
        }
        if stage.len() < len {
            // Somebody changed the mask meanwhile: the counts mean nothing, but there must be as much to read.
            // SAFETY: something was chosen, so there is a first element.
            let filler = unsafe { self.x.dense::<E>(0, 1, &mut x_stage).read_unaligned() };
            stage.resize(len, filler);
        }
        stage.as_ptr()
    }

    /// The position of the element `skip` after the start of a segment, if nothing between it and the `len`th from it is left out.
    fn run(&self, first: usize, skip: u64, len: usize) -> Option<u64> {
        let position = first as u64 * self.segment + skip;
        let end = (position + len as u64).div_ceil(self.segment);
        let positions = self.x.count().min(end * self.segment) - first as u64 * self.segment;
        (self.before.get(end as usize)? - self.before[first] == positions).then_some(position)
    }
}
