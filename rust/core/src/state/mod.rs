//! Numbers that are counted into and merged. Knows no memory of tensors and no instruction level.

pub mod linear_counts;
pub mod log_counts;
pub mod stats;
pub mod unit_moments;
