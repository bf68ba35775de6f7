//! How a chunk of dense elements becomes statistics, by family of dtypes.

pub mod byte_sums;
mod central;
pub mod change;
mod codes;
pub mod count;
mod float;
mod integer;
mod sums;
