//! Owns the walk over a tensor in chunks on several threads, for counts that do not depend on order. Knows nothing of what is counted.

use crate::dtype::element::Element;
use crate::kernel::CHUNK;
use crate::memory::view::Walk;
use crate::parallel::scan::{Options, ordered};

/// Hands every chunk of `walk` as dense memory to `count`, with one `local` value per thread; returns those.
///
/// # Safety
/// The view that `walk` came from must be alive and have element type `E`.
pub unsafe fn count_chunks<E: Element, S: Send>(
    walk: &Walk,
    options: &Options<'_>,
    local: impl Fn() -> S + Sync,
    count: impl Fn(&mut S, *const E, usize) + Sync,
) -> Vec<S> {
    let total = walk.count();
    let chunks = total.div_ceil(CHUNK as u64);
    let one = |scratch: &mut (S, Vec<E>), index: u64| {
        let from = index * CHUNK as u64;
        let len = (total - from).min(CHUNK as u64) as usize;
        // SAFETY: the caller vouches for the view; the range ends at its count.
        let p = unsafe { walk.dense::<E>(from, len, &mut scratch.1) };
        count(&mut scratch.0, p, len);
    };
    if chunks <= 1 {
        let mut scratch = (local(), Vec::new());
        if chunks == 1 {
            one(&mut scratch, 0);
        }
        return vec![scratch.0];
    }
    let options = options.for_bytes(total * size_of::<E>() as u64);
    let task = |scratch: &mut (S, Vec<E>), index: usize| one(scratch, index as u64);
    ordered(chunks as usize, &options, || (local(), Vec::new()), task, |()| ())
        .into_iter()
        .map(|scratch| scratch.0)
        .collect()
}
