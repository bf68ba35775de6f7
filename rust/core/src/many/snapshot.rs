//! Owns copies of tensors and how they are made on several threads. Knows nothing of what is done with them.

use core::marker::PhantomData;

use crate::dtype::Dtype;
use crate::dtype::element::Element;
use crate::kernel::CHUNK;
use crate::memory::view::{TensorView, Walk};
use crate::parallel::scan::{Options, Shares, ordered};
use crate::parallel::team::single_thread_bytes;
use crate::simd::stream;
use crate::summary::bytes_of_all;
use crate::with_element;

/// A copy of a tensor's values, in the order in which its memory is walked.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// `None` while there is no copy, or one that is being made.
    dtype: Option<Dtype>,
    shape: Vec<i64>,
    strides: Vec<i64>,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Whether it is a copy of a tensor of this dtype and layout, so that values have the same places.
    pub fn fits(&self, view: &TensorView<'_>) -> bool {
        self.dtype == Some(view.dtype()) && view.has_layout(&self.shape, &self.strides)
    }

    /// Copies the values of a tensor, on this thread and into its caches.
    pub fn take(&mut self, view: &TensorView<'_>) {
        let copying = Copying::new(self, view);
        for chunk in 0..copying.chunks() {
            copying.chunk(chunk, Target::Cache);
        }
        self.dtype = Some(view.dtype());
    }

    /// Lets go of the copy.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The values of the copy.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes room for the values of a tensor; what was there before is no copy of anything from now on.
    fn make_room(&mut self, view: &TensorView<'_>) {
        if !self.fits(view) {
            self.shape = view.shape().to_vec();
            self.strides = view.strides();
            // Zeros from the system cost nothing until they are written to, by whatever thread does that.
            self.bytes = vec![0; view.count() as usize * view.dtype().size()];
        }
        self.dtype = None;
    }
}

/// Copies tensors, one into each snapshot. Copies that an interruption has left in parts fit nothing.
pub fn take_all(views: &[TensorView<'_>], snapshots: &mut [&mut Snapshot], options: &Options<'_>) {
    let bytes = bytes_of_all(views);
    if bytes <= single_thread_bytes() {
        views.iter().zip(snapshots).for_each(|(view, snapshot)| snapshot.take(view));
        return;
    }
    let copies: Vec<_> =
        views.iter().zip(&mut *snapshots).map(|(view, snapshot)| Copying::new(snapshot, view)).collect();
    let shares = Shares::new(copies.iter().map(Copying::chunks));
    let work = |(): &mut (), index: usize| {
        let (tensor, chunk) = shares.owner(index);
        copies[tensor].chunk(chunk, Target::Memory);
    };
    let mut done = 0;
    ordered(shares.total(), &options.for_bytes(bytes), || (), work, |()| done += 1);
    let whole = done == shares.total();
    drop(copies);
    for (view, snapshot) in views.iter().zip(snapshots).filter(|_| whole) {
        snapshot.dtype = Some(view.dtype());
    }
}

/// Where a copy goes first.
#[derive(Clone, Copy)]
enum Target {
    /// Into the caches, from which it may be read soon.
    Cache,
    /// Past them: so much is copied that it would not stay there.
    Memory,
}

/// A copy that is being made: of distinct chunks by any number of threads.
struct Copying<'a> {
    walk: Walk,
    dtype: Dtype,
    bytes: *mut u8,
    memory: PhantomData<(&'a TensorView<'a>, &'a mut Snapshot)>,
}

// SAFETY: the pointer is that of a snapshot borrowed exclusively, and every chunk is written by whoever takes its task, once.
unsafe impl Sync for Copying<'_> {}

impl<'a> Copying<'a> {
    fn new(snapshot: &'a mut Snapshot, view: &'a TensorView<'_>) -> Self {
        snapshot.make_room(view);
        let bytes = snapshot.bytes.as_mut_ptr();
        Self { walk: view.memory_order(), dtype: view.dtype(), bytes, memory: PhantomData }
    }

    fn chunks(&self) -> usize {
        self.walk.count().div_ceil(CHUNK as u64) as usize
    }

    fn chunk(&self, index: usize, target: Target) {
        with_element!(self.dtype, E => self.chunk_of::<E>(index, target));
    }

    fn chunk_of<E: Element>(&self, index: usize, target: Target) {
        let from = index as u64 * CHUNK as u64;
        let len = (self.walk.count() - from).min(CHUNK as u64) as usize;
        let mut stage = Vec::new();
        // SAFETY: the walk is that of a borrowed view of elements `E`; the snapshot has room for as many, and nobody else writes to this
        // chunk of it.
        unsafe {
            let from = self.walk.dense::<E>(from, len, &mut stage).cast::<u8>();
            let to = self.bytes.add(index * CHUNK * size_of::<E>());
            match target {
                Target::Cache => core::ptr::copy_nonoverlapping(from, to, len * size_of::<E>()),
                Target::Memory => stream::copy(from, to, len * size_of::<E>()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    const LEN: usize = (3 << 20) + 17;

    fn taken(view: &TensorView<'_>, snapshot: &mut Snapshot, threads: usize, interrupted: bool) {
        let options = Options { threads, level: Level::PORTABLE, interrupted: &|| interrupted };
        take_all(core::slice::from_ref(view), &mut [snapshot], &options);
    }

    #[test]
    fn a_copy_has_the_values_whoever_made_it() {
        let values: Vec<f32> = (0..LEN).map(|i| i as f32).collect();
        let shape = [LEN as i64];
        let view = TensorView::from_slice(&values, &shape);
        for threads in [1, 2, 5] {
            let mut snapshot = Snapshot::default();
            taken(&view, &mut snapshot, threads, false);
            assert!(snapshot.fits(&view));
            assert!(snapshot.bytes().chunks_exact(4).zip(&values).all(|(bytes, x)| bytes == x.to_ne_bytes()));
        }
    }

    #[test]
    fn an_interrupted_copy_fits_nothing_and_can_be_taken_again() {
        let values = vec![1.0_f32; LEN];
        let shape = [LEN as i64];
        let view = TensorView::from_slice(&values, &shape);
        for threads in [1, 3] {
            let mut snapshot = Snapshot::default();
            taken(&view, &mut snapshot, threads, false);
            taken(&view, &mut snapshot, threads, true);
            assert!(!snapshot.fits(&view));
            taken(&view, &mut snapshot, threads, false);
            assert!(snapshot.fits(&view));
        }
    }
}
