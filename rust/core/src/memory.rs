//! Owns the question whether there is memory for what somebody asks for. Knows nothing of what it is for.
//!
//! Sizes that come from outside (bins, units, threads, copies of tensors) are asked about before anything is allocated: an allocation that
//! fails in the middle of a count would end the process.

use core::hint::black_box;

use crate::axis::Axis;
use crate::error::{Error, Result};
use crate::kernel::bins::bytes_of_counter;
use crate::team::single_thread_bytes;
use crate::units::Unit;

/// Nobody runs out of memory for less, and asking costs more than using it.
const FREE: u64 = 1 << 20;

/// Refuses to go on where so many bytes cannot be had at once. `what` names what they are for.
pub fn check_memory(bytes: u64, what: &str) -> Result<()> {
    if bytes <= FREE {
        return Ok(());
    }
    let mut probe: Vec<u8> = Vec::new();
    let had = usize::try_from(bytes).is_ok_and(|bytes| probe.try_reserve_exact(bytes).is_ok());
    // An allocation that nobody looks at would be left out.
    black_box(probe.as_ptr());
    if had { Ok(()) } else { Err(Error::Memory(format!("no memory for {what}: {} MB", bytes >> 20))) }
}

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

/// Memory for so many states of units side by side.
pub fn check_units_memory(units: u64, states: u64) -> Result<()> {
    let bytes = units.saturating_mul(size_of::<Unit>() as u64).saturating_mul(states);
    check_memory(bytes, &format!("the activity of {units} units"))
}
