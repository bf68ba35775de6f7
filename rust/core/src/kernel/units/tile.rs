//! Owns the sums of a tile of units, and how sixteen values are added to sixteen lanes of them. Knows nothing of tensors, dtypes or threads.
//!
//! Sums are of differences from a shift that the caller chose for each unit, so that a mean far from zero does not cost the variance its
//! digits. Every addition has its fixed place: lanes of sixteen along a run, row after row down a column.

use crate::number::double::scalb;
use crate::simd::lanes::LANES;
use crate::simd::wide::Wide;

/// What is known about a tile of neighbouring units.
pub struct Tile<W> {
    /// Whether values are taken to be finite, without shift and scale: see [`crate::kernel::units::fast`].
    pub fast: bool,
    /// What is subtracted from each value of a unit, after scaling.
    pub shift: Vec<f64>,
    /// Power of two that each value of a unit is divided by. All zero unless `scaled`.
    pub scale: Vec<i32>,
    /// Whether any scale is not zero.
    pub scaled: bool,
    /// Bounds of saturation.
    pub bounds: Option<(f64, f64)>,
    /// Sum of differences.
    pub sum: Vec<f64>,
    /// Sum of squared differences.
    pub squares: Vec<f64>,
    /// Sums since the last [`Tile::settle`].
    pub(super) recent: [Vec<f64>; 2],
    /// Smallest finite value.
    pub min: Vec<W>,
    /// Largest finite value.
    pub max: Vec<W>,
    /// +0 and -0.
    pub zero: Vec<u32>,
    /// NaN and infinities.
    pub nonfinite: Vec<u32>,
    /// Finite, below the lower bound.
    pub low: Vec<u32>,
    /// Finite, above the upper bound.
    pub high: Vec<u32>,
}

impl<W: Wide> Tile<W> {
    /// Of no values.
    pub fn new(units: usize, bounds: Option<(f64, f64)>) -> Self {
        let mut tile = Self {
            fast: false,
            shift: vec![0.0; units],
            scale: vec![0; units],
            scaled: false,
            bounds,
            sum: Vec::new(),
            squares: Vec::new(),
            recent: [Vec::new(), Vec::new()],
            min: Vec::new(),
            max: Vec::new(),
            zero: Vec::new(),
            nonfinite: Vec::new(),
            low: Vec::new(),
            high: Vec::new(),
        };
        tile.clear();
        tile
    }

    /// Forgets all values; shifts and scales stay.
    pub fn clear(&mut self) {
        let units = self.shift.len();
        let [recent, recent_squares] = &mut self.recent;
        for sums in [&mut self.sum, &mut self.squares, recent, recent_squares] {
            sums.clear();
            sums.resize(units, 0.0);
        }
        for counts in [&mut self.zero, &mut self.nonfinite, &mut self.low, &mut self.high] {
            counts.clear();
            counts.resize(units, 0);
        }
        self.min.clear();
        self.min.resize(units, W::INF);
        self.max.clear();
        self.max.resize(units, W::NEG_INF);
    }

    /// Adds the sums of one item to those of the items before it: many short sums lose less than one long one.
    pub fn settle(&mut self) {
        let [recent, recent_squares] = &mut self.recent;
        for (total, part) in [(&mut self.sum, recent), (&mut self.squares, recent_squares)] {
            for (t, p) in total.iter_mut().zip(part) {
                *t += *p;
                *p = 0.0;
            }
        }
    }
}

/// Two factors that together are 2^-scale, each inside the range of `f64`.
#[inline(always)]
pub(super) fn factors(scale: i32) -> [f64; 2] {
    [scalb(1.0, -(scale / 2)), scalb(1.0, scale / 2 - scale)]
}

/// One run in sixteen lanes.
pub(super) struct Run<W> {
    pub(super) sum: [f64; LANES],
    pub(super) squares: [f64; LANES],
    pub(super) min: [W; LANES],
    pub(super) max: [W; LANES],
    pub(super) zero: [u32; LANES],
    pub(super) nonfinite: [u32; LANES],
    pub(super) low: [u32; LANES],
    pub(super) high: [u32; LANES],
}

impl<W: Wide> Run<W> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            sum: [0.0; LANES],
            squares: [0.0; LANES],
            min: [W::INF; LANES],
            max: [W::NEG_INF; LANES],
            zero: [0; LANES],
            nonfinite: [0; LANES],
            low: [0; LANES],
            high: [0; LANES],
        }
    }

    #[inline(always)]
    pub(super) fn add<const SCALED: bool, const BOUNDS: bool>(
        &mut self,
        lane: usize,
        x: W,
        shift: f64,
        factors: [f64; 2],
        bounds: (f64, f64),
    ) {
        let finite = x.abs() < W::INF;
        let d = difference::<W, SCALED>(x, finite, shift, factors);
        self.sum[lane] += d;
        self.squares[lane] += d * d;
        self.zero[lane] += u32::from(x == W::ZERO);
        self.nonfinite[lane] += u32::from(!finite);
        let low = if finite { x } else { W::INF };
        let high = if finite { x } else { W::NEG_INF };
        self.min[lane] = if low < self.min[lane] { low } else { self.min[lane] };
        self.max[lane] = if high > self.max[lane] { high } else { self.max[lane] };
        if BOUNDS {
            self.low[lane] += u32::from(finite & (x.to_f64() < bounds.0));
            self.high[lane] += u32::from(finite & (x.to_f64() > bounds.1));
        }
    }

    /// As sixteen times [`Run::add`]. One short loop for each sum, so that all of them stay in registers.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "one index for all arrays is what the compiler turns into registers")]
    pub(super) fn add_all<const SCALED: bool, const BOUNDS: bool>(
        &mut self,
        x: [W; LANES],
        shift: [f64; LANES],
        factors: [[f64; 2]; LANES],
        bounds: (f64, f64),
    ) {
        for l in 0..LANES {
            let d = difference::<W, SCALED>(x[l], x[l].abs() < W::INF, shift[l], factors[l]);
            self.sum[l] += d;
            self.squares[l] += d * d;
        }
        for l in 0..LANES {
            self.zero[l] += u32::from(x[l] == W::ZERO);
        }
        for l in 0..LANES {
            self.nonfinite[l] += u32::from(x[l].magnitude() >= W::INFINITY);
        }
        for l in 0..LANES {
            let low = if x[l].abs() < W::INF { x[l] } else { W::INF };
            self.min[l] = if low < self.min[l] { low } else { self.min[l] };
        }
        for l in 0..LANES {
            let high = if x[l].abs() < W::INF { x[l] } else { W::NEG_INF };
            self.max[l] = if high > self.max[l] { high } else { self.max[l] };
        }
        if BOUNDS {
            for l in 0..LANES {
                self.low[l] += u32::from((x[l].abs() < W::INF) & (x[l].to_f64() < bounds.0));
            }
            for l in 0..LANES {
                self.high[l] += u32::from((x[l].abs() < W::INF) & (x[l].to_f64() > bounds.1));
            }
        }
    }

    /// Not inlined: what happens to the lanes after the loop would otherwise decide how they are kept in it.
    #[inline(never)]
    pub(super) fn put(&self, tile: &mut Tile<W>, unit: usize) {
        tile.recent[0][unit] += fold(self.sum);
        tile.recent[1][unit] += fold(self.squares);
        let min = self.min.into_iter().fold(W::INF, |a, b| if b < a { b } else { a });
        let max = self.max.into_iter().fold(W::NEG_INF, |a, b| if b > a { b } else { a });
        tile.min[unit] = if min < tile.min[unit] { min } else { tile.min[unit] };
        tile.max[unit] = if max > tile.max[unit] { max } else { tile.max[unit] };
        tile.zero[unit] += self.zero.iter().sum::<u32>();
        tile.nonfinite[unit] = tile.nonfinite[unit].wrapping_add(self.nonfinite.iter().sum::<u32>());
        tile.low[unit] += self.low.iter().sum::<u32>();
        tile.high[unit] += self.high.iter().sum::<u32>();
    }
}

/// The sum of sixteen lanes, by halves.
#[inline(always)]
fn fold(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn difference<W: Wide, const SCALED: bool>(x: W, finite: bool, shift: f64, factors: [f64; 2]) -> f64 {
    let x = x.to_f64();
    let d = if SCALED { x * factors[0] * factors[1] - shift } else { x - shift };
    if finite { d } else { 0.0 }
}
