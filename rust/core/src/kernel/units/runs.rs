//! Owns the sums of units whose values are neighbours in memory. Knows nothing of tensors, dtypes or threads.

use crate::kernel::units::tile::{Run, Tile, factors};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::level::Kernel;
use crate::simd::wide::Wide;

/// Takes in `[units, len]` values: each unit's are neighbours.
pub struct RunsKernel<'a, W> {
    /// First value of the first unit.
    pub p: *const W,
    /// Elements from one unit to the next.
    pub unit_stride: isize,
    /// First unit of the tile that is meant, and how many.
    pub units: core::ops::Range<usize>,
    /// Values of each unit.
    pub len: usize,
    /// Where they go.
    pub tile: &'a mut Tile<W>,
}

impl<W: Wide> Kernel for RunsKernel<'_, W> {
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

impl<W: Wide> RunsKernel<'_, W> {
    #[inline(always)]
    fn all<const SCALED: bool, const BOUNDS: bool>(self) {
        let bounds = self.tile.bounds.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        for (i, unit) in self.units.enumerate() {
            let p = self.p.wrapping_offset(i as isize * self.unit_stride);
            let shift = self.tile.shift[unit];
            let factors = if SCALED { factors(self.tile.scale[unit]) } else { [1.0; 2] };
            let mut run = Run::<W>::new();
            let whole = self.len - self.len % LANES;
            let mut j = 0;
            while j < whole {
                // SAFETY: whoever made the kernel vouches for `len` values of each unit; an array is as readable as its elements.
                let x = unsafe { p.add(j).cast::<[W; LANES]>().read_unaligned() };
                run.add_all::<SCALED, BOUNDS>(x, [shift; LANES], [factors; LANES], bounds);
                j += LANES;
            }
            let rest = self.len - whole;
            if rest > 0 {
                // NaN adds to nothing but one count, which is taken off again.
                let mut x = [W::NAN; LANES];
                for (j, slot) in x.iter_mut().enumerate().take(rest) {
                    // SAFETY: as above.
                    *slot = unsafe { p.add(whole + j).read_unaligned() };
                }
                run.add_all::<SCALED, BOUNDS>(x, [shift; LANES], [factors; LANES], bounds);
                self.tile.nonfinite[unit] = self.tile.nonfinite[unit].wrapping_sub((LANES - rest) as u32);
            }
            run.put(self.tile, unit);
        }
    }
}
