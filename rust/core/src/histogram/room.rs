//! Owns the question whether there is memory for a count into an axis. Knows nothing of what is counted.

use crate::allocation::{FREE, check_memory};
use crate::axis::Axis;
use crate::error::Result;
use crate::kernel::histogram::ranks::bytes_of_counter;
use crate::parallel::team::single_thread_bytes;

/// Memory for a count of `bytes` into an axis on up to so many threads, and for what comes of it.
pub fn check_histogram(axis: &Axis, bytes: u64, threads: usize) -> Result<()> {
    let table = bytes_of_table(axis);
    if table <= FREE / 64 {
        return Ok(());
    }
    let threads = if bytes <= single_thread_bytes() { 1 } else { threads as u64 };
    let each = axis.edges().map_or(table, |edges| bytes_of_counter(edges.values().len() + 1));
    check_memory(table.saturating_add(each.saturating_mul(threads)), &format!("a histogram of {axis}"))
}

/// What the counts of an axis take at most.
fn bytes_of_table(axis: &Axis) -> u64 {
    match axis {
        Axis::LogLinear { .. } => 0,
        Axis::Linear { bins } => bins.saturating_mul(8),
        Axis::Regular { edges, .. } | Axis::Variable { edges } => 8 * edges.values().len() as u64,
    }
}
