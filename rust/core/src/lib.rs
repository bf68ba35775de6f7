//! Exact, mergeable statistics of tensors in one pass over memory.
//!
//! Every room is a folder or a file; a room uses those before it in this list, never one after it (`tests/directions.rs`):
//! * [`error`], [`number`], [`bytes`], [`allocation`]: what knows nothing of tensors.
//! * [`dtype`]: the one list of element types; [`state`]: numbers that are counted into and merged.
//! * [`simd`]: the same lanes at every instruction level; [`axis`]: the bins of a histogram.
//! * [`kernel`]: a chunk of dense elements becomes a small state, by the same operations in the same order at every level.
//! * [`parallel`]: work is shared between threads and merged in index order, so the thread count never shows in a result.
//! * [`memory`]: any strided memory is walked in place, as dense chunks.
//! * [`summary`], [`histogram`], [`units`]: what is kept of a tensor; states merge, so threads, steps, files and ranks are one operation.
//! * [`query`], [`many`]: questions about one tensor, and many tensors at once.
//! * [`device`]: the states of tensors that a device has counted.
//!
//! NaN and infinities are counted and otherwise left out; no input makes a function panic.

pub mod allocation;
pub mod axis;
pub mod bytes;
pub mod device;
pub mod dtype;
pub mod error;
pub mod histogram;
pub mod kernel;
pub mod many;
pub mod memory;
pub mod number;
pub mod parallel;
pub mod query;
pub mod simd;
pub mod state;
pub mod summary;
pub mod units;

pub use crate::axis::Axis;
pub use crate::dtype::{Dtype, Kind};
pub use crate::error::{Error, Result};
pub use crate::histogram::Histogram;
pub use crate::memory::view::TensorView;
pub use crate::number::Number;
pub use crate::simd::level::Level;
pub use crate::summary::Summary;
pub use crate::summary::samples::Sketch;
pub use crate::units::UnitActivity;
