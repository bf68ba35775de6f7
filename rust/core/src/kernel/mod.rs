//! Owns the kernels: how a chunk of dense elements becomes [`crate::state::stats::Stats`]. Knows nothing of tensors' layout, threads or Python.
//!
//! The grid is fixed, so results do not depend on who counts what:
//! * a *block* of 4,096 elements is summed in plain `f64` lanes (256 additions a lane, so an error of at most 2^-45 of the sum of
//!   magnitudes) and then added to a pair of lanes without error;
//! * a *chunk* of 65,536 elements folds its lanes into one [`crate::state::stats::Stats`], while its data is still in the second-level cache, should a
//!   second look be needed;
//! * chunks are merged in index order by [`crate::parallel::scan`].

pub mod grid;
pub mod histogram;
pub mod query;
pub mod summary;
pub mod units;
pub mod wide_block;

pub use grid::{BLOCK, CHUNK, Moments};
pub use summary::count::Count;
