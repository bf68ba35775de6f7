//! Owns the arithmetic that finds the rank of an `f32` among equal bins in `f32`, and the proof of where it can be wrong. Knows nothing of
//! counts or memory.
//!
//! The rank is the whole part of `t = x * scale + offset`, clamped to half a rank beyond the bins. With `T` the same in real numbers,
//! `u = 2^-24` and `|T| <= bins + 2`, the roundings of `scale`, `offset`, the product and the sum add up to
//! `|t - T| <= 2u|x scale| + u|offset| + u|t| < 3u (bins + 2 + |offset|)`, and an edge lies at most `δ` from a whole number. So where `t` is
//! further than both together from a whole number, its whole part is the rank; elsewhere the value is looked at again with edges.

/// Constants for one edge table.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// Ranks per unit.
    pub scale: f32,
    /// The rank of zero.
    pub offset: f32,
    /// Half a rank beyond the last edge.
    pub top: f32,
    /// Distance from a whole number up to which the rank is in doubt.
    pub doubt: f32,
    /// A value whose rank is right all the same: zero, which is in every other tensor and is an edge of every even number of bins around
    /// it. NaN, which is equal to nothing, where it is not.
    pub trusted: f32,
}

/// Beyond this many bins the table of pairs of ranks would outgrow the first-level cache.
const MOST_BINS: usize = 64;

/// With a wider doubt too many values would be looked at twice.
const WIDEST_DOUBT: f64 = 2e-4;

impl Narrow {
    /// For increasing edges that are meant to be equally wide.
    pub(crate) fn new(edges: &[f64]) -> Option<Self> {
        let (&start, &stop) = (edges.first()?, edges.last()?);
        let bins = (edges.len() - 1) as f64;
        let scale = bins / (stop - start);
        let offset = 1.0 - start * scale;
        let off = |(i, e): (usize, &f64)| (e * scale + offset - (i + 1) as f64).abs();
        let distance = edges.iter().enumerate().map(off).fold(0.0, f64::max);
        // Four instead of three: the rest is for the roundings in these lines.
        let doubt = 4.0 * f64::from(f32::EPSILON / 2.0) * (bins + 2.0 + offset.abs()) + distance;
        let in_range = (1e-30..1e30).contains(&scale) && doubt <= WIDEST_DOUBT;
        if edges.len() - 1 > MOST_BINS || !in_range {
            return None;
        }
        let (offset, top) = (offset as f32, bins as f32 + 1.5);
        let rank = edges.partition_point(|&e| e <= 0.0);
        let trusted = offset.clamp(0.5, top).floor() == rank as f32 && stop != 0.0;
        Some(Self {
            scale: scale as f32,
            offset,
            top,
            doubt: (doubt as f32).next_up(),
            trusted: if trusted { 0.0 } else { f32::NAN },
        })
    }
}
