//! Owns an edge table and the proofs of how to search it: when arithmetic alone finds the bin, and when edges must be compared.
//! Knows nothing of counts or memory.
//!
//! For equal bins the first guess is `t = (x - start) * scale`. Subtraction and multiplication round monotonically, so `t` never falls as
//! `x` grows. If for every edge `e[i]` the largest representable value below it has `t < i` and the smallest one not below it has
//! `t >= i`, then the whole part of `t` *is* the bin, for every value of that format: no edge has to be looked at. The proof costs two
//! evaluations an edge. Where it fails, `δ = max |t(e[i]) - i|` bounds how far from a whole number `t` can be misleading.

use std::sync::OnceLock;

use crate::axis::cells::Cells;
use crate::axis::guide::Guide;
use crate::axis::narrow::Narrow;
use crate::simd::level::in_standard_mode;
use crate::simd::wide::Wide;

/// Which values a proof is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// Everything an `f32` holds.
    F32,
    /// Everything an `f64` holds.
    F64,
    /// Whole numbers that an `f64` holds exactly.
    Int,
}

impl Grid {
    /// The smallest value of the grid that is at least `x`.
    fn at_least(self, x: f64) -> f64 {
        match self {
            Self::F32 => f64::from(f32::at_least(x)),
            Self::F64 => x,
            Self::Int => x.ceil(),
        }
    }

    /// The largest value of the grid below `x`.
    fn below(self, x: f64) -> f64 {
        match self {
            Self::F32 => f64::from(f32::at_least(x).next_down()),
            Self::F64 => x.next_down(),
            Self::Int => x.ceil() - 1.0,
        }
    }
}

/// How the bin of a value is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The whole part of `(x - start) * scale`, but values in `soft` go into the bin next to it: proven.
    Guess {
        /// Bins per unit.
        scale: f64,
        /// Where the guess is one bin off.
        soft: Option<Soft>,
    },
    /// The same, and where the guess is within `doubt` of a whole number its edges are compared.
    Compare {
        /// Bins per unit.
        scale: f64,
        /// Largest distance from a whole number at which the guess can be one off; below one.
        doubt: f64,
    },
    /// Search by the bits of the value.
    Search,
}

/// Values `from <= x < to` that the guess puts next to their bin. In practice: numbers so close to an edge at zero that subtracting
/// `start` swallows them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Soft {
    /// First value.
    pub from: f64,
    /// First value beyond.
    pub to: f64,
    /// The bin that is guessed.
    pub guessed: usize,
    /// The bin that is right.
    pub right: usize,
}

/// Increasing edges and what was found out about them.
#[derive(Debug)]
pub struct Edges {
    values: Vec<f64>,
    equal: bool,
    lower: Vec<f64>,
    methods: [OnceLock<Method>; 3],
    guide: OnceLock<Guide>,
    narrow: OnceLock<Option<Narrow>>,
    cells: [OnceLock<Option<Cells>>; 2],
}

impl Edges {
    /// At least two increasing finite values; `equal` when the bins are meant to be equally wide.
    pub(crate) fn new(values: Vec<f64>, equal: bool) -> Self {
        let mut lower = values.clone();
        lower.push(f64::NAN);
        if let Some(first) = lower.first_mut() {
            *first = f64::NEG_INFINITY;
        }
        Self {
            values,
            equal,
            lower,
            methods: Default::default(),
            guide: OnceLock::new(),
            narrow: OnceLock::new(),
            cells: Default::default(),
        }
    }

    /// The edges as bounds for correcting a guess: nothing is below the first, nothing reaches the one after the last.
    pub fn lower(&self) -> &[f64] {
        &self.lower
    }

    /// The edges.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// First edge.
    pub fn start(&self) -> f64 {
        self.values.first().copied().unwrap_or(0.0)
    }

    /// Last edge.
    pub fn stop(&self) -> f64 {
        self.values.last().copied().unwrap_or(0.0)
    }

    /// How to search for values of a grid.
    pub fn method(&self, grid: Grid) -> Method {
        if !self.equal {
            return Method::Search;
        }
        *self.methods[grid as usize].get_or_init(|| in_standard_mode(|| self.find_method(grid)))
    }

    /// The table that starts a search.
    pub fn guide(&self) -> &Guide {
        self.guide.get_or_init(|| in_standard_mode(|| Guide::new(&self.values)))
    }

    /// How to find ranks of `f32` in `f32` arithmetic, where that is worth it.
    pub fn narrow(&self) -> Option<&Narrow> {
        let find = || if self.equal { in_standard_mode(|| Narrow::new(&self.values)) } else { None };
        self.narrow.get_or_init(find).as_ref()
    }

    /// The table of cells with one edge each, for values of `f32` or else of `f64`; `None` where it would be too big.
    pub fn cells(&self, single: bool) -> Option<&Cells> {
        let kept = &self.cells[usize::from(single)];
        let find = || {
            in_standard_mode(|| if single { Cells::new::<f32>(&self.values) } else { Cells::new::<f64>(&self.values) })
        };
        kept.get_or_init(find).as_ref()
    }

    fn find_method(&self, grid: Grid) -> Method {
        let (bins, start) = ((self.values.len() - 1) as f64, self.start());
        let plain = bins / (self.stop() - start);
        if !plain.is_finite() || plain <= 0.0 {
            return Method::Search;
        }
        // A hair wider puts a value that is exactly an edge above the whole number where rounding left it below.
        for factor in [0.0, f64::EPSILON, 8.0 * f64::EPSILON, 64.0 * f64::EPSILON] {
            let scale = plain + plain * factor;
            if let Ok(soft) = self.prove(grid, scale) {
                return Method::Guess { scale, soft };
            }
        }
        let doubt =
            self.values.iter().enumerate().map(|(i, &e)| ((e - start) * plain - i as f64).abs()).fold(0.0, f64::max);
        if doubt < 0.25 { Method::Compare { scale: plain, doubt } } else { Method::Search }
    }

    /// Whether the guess is right for every value of the grid, but for one stretch at a single edge.
    fn prove(&self, grid: Grid, scale: f64) -> Result<Option<Soft>, NotProven> {
        let guess = |x: f64| (x - self.start()) * scale;
        let mut soft = None;
        for (i, &edge) in self.values.iter().enumerate().skip(1) {
            let right = i as f64;
            if guess(grid.below(edge)) < right && guess(grid.at_least(edge)) >= right {
                continue;
            }
            // Only an edge next to zero has values so close that they are lost in the subtraction; f32 alone is worth the trouble.
            if grid != Grid::F32 || soft.is_some() {
                return Err(NotProven);
            }
            soft = Some(soft_edge(edge, i, guess).ok_or(NotProven)?);
        }
        Ok(soft)
    }
}

/// The guess is wrong for values that cannot be told apart from the others.
struct NotProven;

/// The `f32` values on the wrong side of an edge. `None` when they reach further than one bin.
fn soft_edge(edge: f64, i: usize, guess: impl Fn(f64) -> f64) -> Option<Soft> {
    let right = i as f64;
    let first = f32::at_least(edge);
    let wrong_below = guess(f64::from(first.next_down())) >= right;
    // The guess is monotone, so the wrong values are neighbours of the edge: find their far end by halving in the order of the bits.
    let (mut near, mut far) = (order(first), order(if wrong_below { f32::MIN } else { f32::MAX }));
    let is_wrong = |place: i64| {
        let t = guess(f64::from(at(place)));
        if wrong_below { t >= right } else { t < right }
    };
    if wrong_below {
        near -= 1;
    }
    while (near - far).abs() > 1 {
        let middle = i64::midpoint(near, far);
        if is_wrong(middle) {
            near = middle;
        } else {
            far = middle;
        }
    }
    if is_wrong(far) {
        return None;
    }
    Some(if wrong_below {
        Soft { from: f64::from(at(near)), to: f64::from(first), guessed: i, right: i - 1 }
    } else {
        Soft { from: f64::from(first), to: f64::from(at(far)), guessed: i - 1, right: i }
    })
}

/// The place of a float among all floats; -0 and +0 share one.
fn order(x: f32) -> i64 {
    let magnitude = i64::from(x.to_bits() & 0x7fff_ffff);
    if x.is_sign_negative() { -magnitude } else { magnitude }
}

/// The float at a place.
fn at(place: i64) -> f32 {
    let magnitude = f32::from_bits(place.unsigned_abs() as u32);
    if place < 0 { -magnitude } else { magnitude }
}
