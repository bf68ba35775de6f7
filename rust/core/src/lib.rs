//! Exact, mergeable statistics of tensors in one pass over memory.
//!
//! The ideas, each owned by one module:
//! * [`view`]: any strided memory is walked in place, as dense chunks.
//! * [`kernel`]: a chunk becomes a small state; the operations and their order are the same at every SIMD level.
//! * [`stats`], [`summary`]: states merge without losing accuracy, so threads, steps, files and ranks are one operation.
//! * [`scan`]: chunks are counted on threads ([`team`]) and merged in index order, so the thread count never shows in a result.
//!
//! NaN and infinities are counted and otherwise left out; no input makes a function panic.

pub mod axis;
pub mod bytes;
pub mod chunks;
pub mod double;
pub mod dtype;
pub mod element;
pub mod environment;
pub mod error;
pub mod formats;
pub mod fused;
pub mod histogram;
mod histogram_bytes;
mod histogram_cells;
mod histogram_check;
mod histogram_count;
pub mod histogram_edges;
pub mod histogram_guide;
pub mod histogram_linear;
pub mod histogram_log;
mod histogram_narrow;
mod histogram_parts;
mod histogram_quantile;
mod histogram_repr;
pub mod kernel;
pub mod level;
pub mod memory;
pub mod norm;
pub mod number;
pub mod quantile;
pub mod range;
pub mod scan;
mod selection;
pub mod sketch;
pub mod snapshot;
pub mod stats;
pub mod summary;
mod summary_bytes;
mod summary_check;
mod summary_formats;
pub mod team;
pub mod units;
mod units_bytes;
mod units_check;
pub mod units_moments;
mod units_plan;
mod units_scan;
mod units_where;
pub mod update;
pub mod verdict;
pub mod view;

pub use axis::Axis;
pub use dtype::{Dtype, Kind};
pub use error::{Error, Result};
pub use histogram::Histogram;
pub use level::Level;
pub use number::Number;
pub use sketch::Sketch;
pub use summary::Summary;
pub use units::UnitActivity;
pub use view::TensorView;
