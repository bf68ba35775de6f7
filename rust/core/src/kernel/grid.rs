//! Owns the sizes of the grid that elements are counted in, and which moments are kept. Knows nothing of how.

/// Elements summed in plain `f64` before compensation. Bounds the error of a sum; also what fits the first-level cache.
pub const BLOCK: usize = 4096;

/// Elements that become one [`crate::state::stats::Stats`].
pub const CHUNK: usize = 65_536;

/// Which central moments to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// Mean and variance.
    Two,
    /// Also the third and fourth moment.
    Four,
}
