//! Owns the sums of units that are neighbours in memory, row after row. Knows nothing of tensors, dtypes or threads.

use crate::kernel::units::tile::{Run, Tile, factors};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::level::Kernel;
use crate::simd::prefetch::{LINE, prefetch};
use crate::simd::wide::Wide;

/// Takes in `[rows, units]` values: a row's units are neighbours.
pub struct ColumnsKernel<'a, W> {
    /// First value of the first row.
    pub p: *const W,
    /// Elements from one row to the next.
    pub row_stride: isize,
    /// Number of rows.
    pub rows: usize,
    /// Where they go; its units are the row's.
    pub tile: &'a mut Tile<W>,
}

impl<W: Wide> Kernel for ColumnsKernel<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        match (self.tile.scaled, self.tile.bounds.is_some()) {
            (false, false) => self.all::<false, false>(),
            (false, true) => self.all::<false, true>(),
            (true, false) => self.all::<true, false>(),
            (true, true) => self.all::<true, true>(),
        }
    }
}

impl<W: Wide> ColumnsKernel<'_, W> {
    /// Rows in groups, so that sums are fetched and put back once a group while memory is read in long straight lines.
    #[inline(always)]
    fn all<const SCALED: bool, const BOUNDS: bool>(mut self) {
        let units = self.tile.shift.len();
        let whole = units - units % LANES;
        let mut row = 0;
        while row < self.rows {
            let rows = ROWS.min(self.rows - row);
            let p = self.p.wrapping_offset(row as isize * self.row_stride);
            let mut first = 0;
            while first < whole {
                strip::<W, SCALED, BOUNDS>(p.wrapping_add(first), self.row_stride, rows, self.tile, first);
                first += LANES;
            }
            if whole < units {
                self.rest::<SCALED, BOUNDS>(p, rows, whole);
            }
            row += rows;
        }
    }

    /// The last columns, fewer than sixteen: one by one, in the same order as the others.
    #[inline(always)]
    fn rest<const SCALED: bool, const BOUNDS: bool>(&mut self, p: *const W, rows: usize, first: usize) {
        let bounds = self.tile.bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        for unit in first..self.tile.shift.len() {
            let factors = if SCALED { factors(self.tile.scale[unit]) } else { [1.0; 2] };
            let mut run = Run::<W>::new();
            run.sum[0] = self.tile.recent[0][unit];
            run.squares[0] = self.tile.recent[1][unit];
            for row in 0..rows {
                // SAFETY: whoever made the kernel vouches for the columns of each row.
                let x = unsafe { p.wrapping_offset(row as isize * self.row_stride).add(unit).read_unaligned() };
                run.add::<SCALED, BOUNDS>(0, x, self.tile.shift[unit], factors, bounds);
            }
            self.tile.recent[0][unit] = 0.0;
            self.tile.recent[1][unit] = 0.0;
            run.put(self.tile, unit);
        }
    }
}

/// Rows whose sums are kept in registers together.
const ROWS: usize = 8;

/// Sixteen columns of a few rows. The caller vouches that they are readable.
#[inline(always)]
fn strip<W: Wide, const SCALED: bool, const BOUNDS: bool>(
    p: *const W,
    row_stride: isize,
    rows: usize,
    tile: &mut Tile<W>,
    first: usize,
) {
    let bounds = tile.bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let [sums, sums_of_squares] = &mut tile.recent;
    let mut run = Run::<W>::new();
    let range = first..first + LANES;
    let mut shift = [0.0; LANES];
    shift.copy_from_slice(&tile.shift[range.clone()]);
    run.sum.copy_from_slice(&sums[range.clone()]);
    run.squares.copy_from_slice(&sums_of_squares[range.clone()]);
    run.min.copy_from_slice(&tile.min[range.clone()]);
    run.max.copy_from_slice(&tile.max[range.clone()]);
    let mut scales = [[1.0; 2]; LANES];
    if SCALED {
        for (s, &scale) in scales.iter_mut().zip(&tile.scale[first..]) {
            *s = factors(scale);
        }
    }
    for row in 0..rows {
        let p = p.wrapping_offset(row as isize * row_stride);
        // The same columns of the next group: rows are too far apart for the hardware to read ahead in all of them.
        let next = p.wrapping_offset(ROWS as isize * row_stride);
        for line in 0..LANES * size_of::<W>() / LINE {
            prefetch(next.wrapping_byte_add(line * LINE));
        }
        // SAFETY: whoever made the kernel vouches for the columns of each row; an array is as readable as its elements.
        let x = unsafe { p.cast::<[W; LANES]>().read_unaligned() };
        run.add_all::<SCALED, BOUNDS>(x, shift, scales, bounds);
    }
    sums[range.clone()].copy_from_slice(&run.sum);
    sums_of_squares[range.clone()].copy_from_slice(&run.squares);
    tile.min[range.clone()].copy_from_slice(&run.min);
    tile.max[range.clone()].copy_from_slice(&run.max);
    for (total, part) in [
        (&mut tile.zero, run.zero),
        (&mut tile.nonfinite, run.nonfinite),
        (&mut tile.low, run.low),
        (&mut tile.high, run.high),
    ] {
        for (t, p) in total[range.clone()].iter_mut().zip(part) {
            *t += p;
        }
    }
}
