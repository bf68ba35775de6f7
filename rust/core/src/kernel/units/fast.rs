//! Owns the sums of units whose values are taken to be finite: plain sums and sums of squares, without a shift. Knows nothing of tensors,
//! dtypes or threads.
//!
//! A NaN or an infinity makes the sum of squares something else than a number, and a mean far from zero shows in the sums: whoever reads
//! them finds such units and counts them again with [`super::columns`] or [`super::runs`]. Every addition has its fixed place:
//! lanes of sixteen along a run, row after row down a column.

use core::ops::Range;

use crate::Dtype;
use crate::kernel::units::tile::Tile;
use crate::simd::lanes::{LANES, Lanes, Scan, WideFloat};
use crate::simd::level::Kernel;
use crate::simd::prefetch::{LINE, prefetch};
use crate::simd::wide::Wide;

/// Rows whose sums are kept in registers together. The same columns of as many rows are asked for ahead: the next row is on another page,
/// where the hardware does not look.
const ROWS: usize = 64;

/// Of sixteen values, a window of this takes the last `n` when it starts at `n`, and the first `n` when it starts at `32 - n`.
static TAKEN: [u32; 3 * LANES] = {
    let mut taken = [0; 3 * LANES];
    let mut i = LANES;
    while i < 2 * LANES {
        taken[i] = 1;
        i += 1;
    }
    taken
};

/// The same as factors.
static FACTORS: [f64; 3 * LANES] = {
    let mut factors = [0.0; 3 * LANES];
    let mut i = LANES;
    while i < 2 * LANES {
        factors[i] = 1.0;
        i += 1;
    }
    factors
};

/// Sums and sums of squares, sixteen lanes of each.
#[derive(Clone, Copy)]
struct Sums<L: Lanes> {
    sum: L::F64,
    squares: L::F64,
}

impl<L: Lanes> Sums<L> {
    #[inline(always)]
    fn add<W: Wide>(&mut self, lanes: L, x: L::F64) {
        self.sum = lanes.add(self.sum, x);
        self.squares = if W::DTYPE == Dtype::F64 {
            lanes.add(self.squares, lanes.mul(x, x))
        } else {
            lanes.add_exact_square(self.squares, x)
        };
    }
}

/// The sum of sixteen lanes, by halves.
#[inline(always)]
fn fold<L: Lanes>(lanes: L, x: L::F64) -> f64 {
    let x = lanes.add(x, lanes.upper::<8>(x));
    let x = lanes.add(x, lanes.upper::<4>(x));
    let x = lanes.add(x, lanes.upper::<2>(x));
    let x = lanes.add(x, lanes.upper::<1>(x));
    lanes.to_array(x)[0]
}

/// Values beyond the bounds of saturation, lane by lane.
struct Beyond<W> {
    bounds: [W; 2],
    low: [u32; LANES],
    high: [u32; LANES],
}

impl<W: Wide> Beyond<W> {
    #[inline(always)]
    fn new(bounds: [W; 2]) -> Self {
        Self { bounds, low: [0; LANES], high: [0; LANES] }
    }

    #[inline(always)]
    fn add(&mut self, values: [W; LANES], taken: [u32; LANES]) {
        for ((low, x), taken) in self.low.iter_mut().zip(values).zip(taken) {
            *low += taken & u32::from(x < self.bounds[0]);
        }
        for ((high, x), taken) in self.high.iter_mut().zip(values).zip(taken) {
            *high += taken & u32::from(x > self.bounds[1]);
        }
    }
}

/// The bounds of saturation as values of the type: the same values are below and above them.
#[inline(always)]
fn bounds<W: Wide>(tile: &Tile<W>) -> [W; 2] {
    tile.bounds.map_or([W::NEG_INF, W::INF], |(low, high)| [W::at_least(low), W::at_most(high)])
}

/// Takes in `[units, len]` values: each unit's are neighbours.
pub struct FastRunsKernel<'a, W> {
    /// First value of the first unit.
    pub p: *const W,
    /// Elements from one unit to the next.
    pub unit_stride: isize,
    /// First unit of the tile that is meant, and how many.
    pub units: Range<usize>,
    /// Values of each unit.
    pub len: usize,
    /// Where they go.
    pub tile: &'a mut Tile<W>,
}

impl<W: Wide + WideFloat> Kernel for FastRunsKernel<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        if self.tile.bounds.is_some() { self.all::<L, true>(lanes) } else { self.all::<L, false>(lanes) }
    }
}

impl<W: Wide + WideFloat> FastRunsKernel<'_, W> {
    #[inline(always)]
    fn all<L: Lanes, const BOUNDS: bool>(self, lanes: L) {
        let bounds = bounds(self.tile);
        let nothing = lanes.splat(0.0);
        for (i, unit) in self.units.enumerate() {
            let p = self.p.wrapping_offset(i as isize * self.unit_stride);
            let mut run = Run::<L, W> {
                sums: Sums { sum: nothing, squares: nothing },
                scan: W::Scan::new(),
                beyond: Beyond::new(bounds),
                repeated_zeros: 0,
            };
            // SAFETY: whoever made the kernel vouches for `len` values of each unit.
            unsafe { run.all::<BOUNDS>(lanes, p, self.len) };
            run.put::<BOUNDS>(lanes, self.tile, unit);
        }
    }
}

/// One run in sixteen lanes.
struct Run<L: Lanes, W: WideFloat> {
    sums: Sums<L>,
    scan: W::Scan<L>,
    beyond: Beyond<W>,
    /// Zeros that the scan saw in place of values that had been taken before.
    repeated_zeros: u32,
}

impl<L: Lanes, W: Wide + WideFloat> Run<L, W> {
    /// # Safety
    /// `p` must be readable for `len` values; it need not be aligned.
    #[inline(always)]
    unsafe fn all<const BOUNDS: bool>(&mut self, lanes: L, p: *const W, len: usize) {
        let whole = len - len % LANES;
        let mut j = 0;
        while j < whole {
            // SAFETY: inside the run; an array is as readable as its elements.
            unsafe {
                let p = p.add(j);
                self.sums.add::<W>(lanes, W::widen(lanes, p));
                self.step(p);
                if BOUNDS {
                    self.beyond.add(p.cast::<[W; LANES]>().read_unaligned(), [1; LANES]);
                }
            }
            j += LANES;
        }
        let rest = len - whole;
        if rest == 0 {
            return;
        }
        if whole > 0 {
            // SAFETY: the last sixteen values of the run, of which the first were taken before.
            let last = unsafe { p.add(len - LANES).cast::<[W; LANES]>().read_unaligned() };
            self.some::<BOUNDS>(lanes, last, last[LANES - 1], rest);
        } else {
            let mut values = [W::ZERO; LANES];
            for (j, slot) in values.iter_mut().enumerate().take(rest) {
                // SAFETY: inside the run.
                *slot = unsafe { p.add(j).read_unaligned() };
            }
            self.some::<BOUNDS>(lanes, values, values[0], 2 * LANES - rest);
        }
    }

    /// Takes in those of sixteen values that a window of [`TAKEN`] takes; in place of the others the scan sees `other`, which is one of
    /// them.
    #[inline(always)]
    fn some<const BOUNDS: bool>(&mut self, lanes: L, values: [W; LANES], other: W, window: usize) {
        let taken: [u32; LANES] = sixteen(&TAKEN[window..window + LANES]);
        let factors: [f64; LANES] = sixteen(&FACTORS[window..window + LANES]);
        let mut seen = values;
        for (x, taken) in seen.iter_mut().zip(taken) {
            *x = if taken != 0 { *x } else { other };
        }
        // SAFETY: the array has sixteen values.
        unsafe {
            self.sums.add::<W>(lanes, lanes.mul(W::widen(lanes, seen.as_ptr()), lanes.of_array(factors)));
            self.step(seen.as_ptr());
        }
        let repeats = LANES - window.min(2 * LANES - window);
        self.repeated_zeros += if other == W::ZERO { repeats as u32 } else { 0 };
        if BOUNDS {
            self.beyond.add(values, taken);
        }
    }

    /// # Safety
    /// `p` must be readable for sixteen values; it need not be aligned.
    #[inline(always)]
    unsafe fn step(&mut self, p: *const W) {
        let step = <W::Scan<L> as Scan>::STEP;
        let mut j = 0;
        while j < LANES {
            // SAFETY: as the caller vouches; the steps of wide floats divide sixteen.
            unsafe { self.scan.step(p.add(j).cast()) };
            j += step;
        }
    }

    #[inline(always)]
    fn put<const BOUNDS: bool>(&self, lanes: L, tile: &mut Tile<W>, unit: usize) {
        tile.recent[0][unit] += fold(lanes, self.sums.sum);
        tile.recent[1][unit] += fold(lanes, self.sums.squares);
        // Exact: an extreme is one of the values.
        let report = self.scan.report(W::decode);
        let (min, max) = (W::at_least(report.min), W::at_most(report.max));
        tile.min[unit] = if min < tile.min[unit] { min } else { tile.min[unit] };
        tile.max[unit] = if max > tile.max[unit] { max } else { tile.max[unit] };
        tile.zero[unit] += report.zero as u32 - self.repeated_zeros;
        if BOUNDS {
            tile.low[unit] += self.beyond.low.iter().sum::<u32>();
            tile.high[unit] += self.beyond.high.iter().sum::<u32>();
        }
    }
}

/// Takes in `[rows, units]` values: a row's units are neighbours, at least sixteen.
pub struct FastColumnsKernel<'a, W> {
    /// First value of the first row.
    pub p: *const W,
    /// Elements from one row to the next.
    pub row_stride: isize,
    /// Number of rows.
    pub rows: usize,
    /// Where they go; its units are the row's.
    pub tile: &'a mut Tile<W>,
}

impl<W: Wide> Kernel for FastColumnsKernel<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        if self.tile.bounds.is_some() { self.all::<L, true>(lanes) } else { self.all::<L, false>(lanes) }
    }
}

impl<W: Wide> FastColumnsKernel<'_, W> {
    /// Rows in groups, so that sums are fetched and put back once a group while memory is read in long straight lines.
    #[inline(always)]
    fn all<L: Lanes, const BOUNDS: bool>(self, lanes: L) {
        let bounds = bounds(self.tile);
        let units = self.tile.shift.len();
        let mut row = 0;
        while row < self.rows {
            let rows = ROWS.min(self.rows - row);
            let p = self.p.wrapping_offset(row as isize * self.row_stride);
            let mut first = 0;
            while first < units {
                // The last columns, fewer than sixteen, together with some before them, whose sums are not put back.
                let from = first.min(units - LANES);
                let q = p.wrapping_add(from);
                // SAFETY: whoever made the kernel vouches for the columns of each row.
                unsafe {
                    strip::<L, W, BOUNDS>(lanes, q, self.row_stride, rows, self.tile, from, first - from, bounds)
                };
                first += LANES;
            }
            row += rows;
        }
    }
}

/// Sixteen columns of a few rows, `first` the first; the sums of the first `skipped` are not put back.
///
/// # Safety
/// They must be readable.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "one piece of a loop")]
unsafe fn strip<L: Lanes, W: Wide, const BOUNDS: bool>(
    lanes: L,
    p: *const W,
    row_stride: isize,
    rows: usize,
    tile: &mut Tile<W>,
    first: usize,
    skipped: usize,
    bounds: [W; 2],
) {
    let mut sums = Sums::<L> {
        sum: lanes.of_array(sixteen(&tile.recent[0][first..])),
        squares: lanes.of_array(sixteen(&tile.recent[1][first..])),
    };
    let (mut min, mut max): ([W; LANES], [W; LANES]) = (sixteen(&tile.min[first..]), sixteen(&tile.max[first..]));
    let (mut zero, mut beyond) = ([0; LANES], Beyond::new(bounds));
    for row in 0..rows {
        let p = p.wrapping_offset(row as isize * row_stride);
        let next = p.wrapping_offset(ROWS as isize * row_stride);
        for line in 0..LANES * size_of::<W>() / LINE {
            prefetch(next.wrapping_byte_add(line * LINE));
        }
        // SAFETY: as the caller vouches; an array is as readable as its elements.
        let (wide, values) = unsafe { (W::widen(lanes, p), p.cast::<[W; LANES]>().read_unaligned()) };
        sums.add::<W>(lanes, wide);
        for (min, x) in min.iter_mut().zip(values) {
            *min = if x < *min { x } else { *min };
        }
        for (max, x) in max.iter_mut().zip(values) {
            *max = if x > *max { x } else { *max };
        }
        for (zero, x) in zero.iter_mut().zip(values) {
            *zero += u32::from(x == W::ZERO);
        }
        if BOUNDS {
            beyond.add(values, [1; LANES]);
        }
    }
    let (sum, squares) = (lanes.to_array(sums.sum), lanes.to_array(sums.squares));
    let mut put = |range: Range<usize>| {
        let to = first + range.start..first + range.end;
        tile.recent[0][to.clone()].copy_from_slice(&sum[range.clone()]);
        tile.recent[1][to.clone()].copy_from_slice(&squares[range.clone()]);
        tile.min[to.clone()].copy_from_slice(&min[range.clone()]);
        tile.max[to.clone()].copy_from_slice(&max[range.clone()]);
        increase(&mut tile.zero[to.clone()], &zero[range.clone()]);
        if BOUNDS {
            increase(&mut tile.low[to.clone()], &beyond.low[range.clone()]);
            increase(&mut tile.high[to], &beyond.high[range]);
        }
    };
    // Of a known length mostly: a few moves of registers.
    if skipped == 0 { put(0..LANES) } else { put(skipped..LANES) }
}

#[inline(always)]
fn sixteen<T: Copy>(values: &[T]) -> [T; LANES] {
    core::array::from_fn(|i| values[i])
}

#[inline(always)]
fn increase(totals: &mut [u32], parts: &[u32]) {
    for (total, part) in totals.iter_mut().zip(parts) {
        *total += part;
    }
}
