//! Owns the search for a value among edges that follow no rule: a table over leading bits, then steps of halving without branches.
//! Knows nothing of counts or memory.

/// A table over the leading bits of values: how many edges lie at or below each cell's smallest value, and how many steps of halving
/// finish the search inside a cell.
#[derive(Debug, Default)]
pub struct Guide {
    /// Bits dropped from an `f64`.
    pub shift: u32,
    /// Leading bits of magnitudes below every non-zero edge.
    pub smallest: u64,
    /// Number of distinct leading bits on each side of zero.
    pub width: u64,
    /// Number of edges at or below the smallest value of each cell; twice the width of them, falling magnitudes below zero first.
    pub ranks: Vec<u32>,
    /// The edges, with as many NaN after them, which are at or below nothing, as a search may look at.
    pub padded: Vec<f64>,
    /// Distances of the steps of halving.
    pub first_step: usize,
}

/// Cells of a guide at most, so that it stays in the second-level cache.
const MAX_CELLS: u64 = 1 << 15;

impl Guide {
    pub(crate) fn new(edges: &[f64]) -> Self {
        let mut best = Self::with_shift(edges, 52).unwrap_or_default();
        for shift in (40..52).rev() {
            match Self::with_shift(edges, shift) {
                Some(finer) if best.first_step > 1 => best = finer,
                _ => break,
            }
        }
        best
    }

    /// `None` when the table would be too big.
    fn with_shift(edges: &[f64], shift: u32) -> Option<Self> {
        let magnitudes = || edges.iter().map(|e| e.abs()).filter(|&m| m > 0.0).map(|m| m.to_bits() >> shift);
        let lowest = magnitudes().min().unwrap_or(1);
        let highest = magnitudes().max().unwrap_or(1);
        // One cell below the lowest leading bits, and one beyond the highest.
        let smallest = lowest.saturating_sub(1);
        let width = highest + 2 - smallest;
        if 2 * width > MAX_CELLS.max(4 * edges.len() as u64) {
            return None;
        }
        let mut ranks = Vec::with_capacity(2 * width as usize);
        let mut most = 0;
        for cell in 0..2 * width {
            let (low, high) = Self::bounds(cell, smallest, width, shift);
            let rank = edges.partition_point(|&e| e <= low);
            most = most.max(edges.partition_point(|&e| e <= high) - rank);
            ranks.push(rank as u32);
        }
        let first_step = if most == 0 { 0 } else { (most + 1).next_power_of_two() / 2 };
        let mut padded = edges.to_vec();
        padded.resize(edges.len() + 2 * first_step + 1, f64::NAN);
        Some(Self { shift, smallest, width, ranks, padded, first_step })
    }

    /// Smallest and largest value of a cell.
    fn bounds(cell: u64, smallest: u64, width: u64, shift: u32) -> (f64, f64) {
        let step = if cell < width { width - 1 - cell } else { cell - width };
        let nearest = if step == 0 { 0.0 } else { f64::from_bits((smallest + step) << shift) };
        let farthest =
            if step + 1 == width { f64::INFINITY } else { f64::from_bits(((smallest + step + 1) << shift) - 1) };
        if cell < width { (-farthest, -nearest) } else { (nearest, farthest) }
    }

    /// How many edges are at most `x`; all of them for NaN.
    #[inline(always)]
    pub fn rank(&self, x: f64) -> usize {
        // No branches: neither the sign of a value nor the side of an edge it falls on can be predicted.
        let bits = if x.is_nan() { f64::INFINITY.to_bits() } else { x.to_bits() };
        let leading = (bits & (u64::MAX >> 1)) >> self.shift;
        let step = leading.saturating_sub(self.smallest).min(self.width - 1);
        // `width + step`, or for a negative sign `width - 1 - step`.
        let cell = self.width.wrapping_add(step ^ 0_u64.wrapping_sub(bits >> 63));
        // SAFETY: `step` is below `width` and there are `2 * width` cells.
        let mut rank = unsafe { *self.ranks.get_unchecked(cell as usize) } as usize;
        let mut step = self.first_step;
        while step > 0 {
            // SAFETY: a rank grows by less than `2 * first_step` from at most the number of edges, and as many NaN follow them.
            let edge = unsafe { *self.padded.get_unchecked(rank + step - 1) };
            rank += core::hint::select_unpredictable(edge <= x, step, 0);
            step /= 2;
        }
        rank
    }
}
