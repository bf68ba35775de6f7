//! Owns the histograms of many tensors while threads count parts of them: which counts belong to which tensor. Knows nothing of how values
//! are counted.

use crate::axis::Axis;
use crate::histogram::Histogram;
use crate::histogram::count::Counter;
use crate::simd::prefetch::AHEAD;

/// What one thread counts: the tensor in hand, and the ones before it.
pub(crate) struct Parts<'a> {
    axis: &'a Axis,
    counter: Counter<'a>,
    tensor: Option<usize>,
    done: Vec<(usize, Histogram)>,
}

impl<'a> Parts<'a> {
    /// Nothing yet.
    pub(crate) fn new(axis: &'a Axis) -> Self {
        Self::reading_ahead(axis, AHEAD)
    }

    /// The same; memory `ahead` bytes further on is asked for while values are counted.
    pub(crate) fn reading_ahead(axis: &'a Axis, ahead: usize) -> Self {
        Self { axis, counter: Counter::reading_ahead(axis, ahead), tensor: None, done: Vec::new() }
    }

    /// The counter for values of a tensor; that of another one is put away first.
    pub(crate) fn counter_of(&mut self, tensor: usize) -> &mut Counter<'a> {
        if self.tensor != Some(tensor) {
            self.put_away();
            self.tensor = Some(tensor);
        }
        &mut self.counter
    }

    /// The histogram of the tensor in hand, which is begun anew.
    pub(crate) fn take(&mut self) -> Option<Histogram> {
        self.tensor.take()?;
        let mut histogram = Histogram::new(self.axis.clone());
        self.counter.move_into(&mut histogram);
        Some(histogram)
    }

    fn put_away(&mut self) {
        if let Some(tensor) = self.tensor
            && let Some(histogram) = self.take()
        {
            self.done.push((tensor, histogram));
        }
    }

    /// Adds what was counted to the histograms of all tensors; counts do not depend on the order of threads.
    pub(crate) fn add_to(mut self, histograms: &mut [Option<Histogram>]) {
        self.put_away();
        for (tensor, part) in self.done {
            match &mut histograms[tensor] {
                None => histograms[tensor] = Some(part),
                // Counts of one axis always merge.
                Some(whole) => _ = whole.merge(&part),
            }
        }
    }
}
