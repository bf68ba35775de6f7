//! Owns the question whether there is memory for what somebody asks for. Knows nothing of what it is for.
//!
//! Sizes that come from outside (bins, units, threads, copies of tensors) are asked about before anything is allocated: an allocation that
//! fails in the middle of a count would end the process.

use core::hint::black_box;

use crate::error::{Error, Result};

/// Nobody runs out of memory for less, and asking costs more than using it.
pub(crate) const FREE: u64 = 1 << 20;

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
