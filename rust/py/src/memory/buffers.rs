//! Owns the reading of many tensors for one call: which are used at once, and which later all together. Knows nothing of statistics.

use pyo3::prelude::*;
use tensorstats_core::TensorView;

use crate::errors::of_many;
use crate::memory::buffer::Buffer;
use crate::memory::dims::Shape;

/// The tensors of a call so far.
///
/// Small ones are used at once, without letting other threads run. From the first big one on all are kept for later: threads are begun for it
/// anyway, and what is small goes along.
#[derive(Default)]
pub(crate) struct Buffers {
    later: Vec<Buffer>,
    shapes: Vec<Shape>,
}

impl Buffers {
    /// None yet, and room for some.
    pub(crate) fn with_capacity(tensors: usize) -> Self {
        Self { later: Vec::new(), shapes: Vec::with_capacity(tensors) }
    }

    /// The next tensor of so many: itself where it is to be used at once, before any other Python code runs, else `None`.
    pub(crate) fn next(&mut self, tensor: &Bound<'_, PyAny>, tensors: usize) -> PyResult<Option<Buffer>> {
        let first = self.later.is_empty();
        let buffer = if first { Buffer::of(tensor) } else { Buffer::owned(tensor) };
        let buffer = buffer.map_err(|error| of_many(tensor.py(), error, self.shapes.len(), tensors))?;
        self.shapes.push(Shape::One(buffer.shape().into()));
        if first && buffer.is_small() {
            return Ok(Some(buffer));
        }
        self.later.push(buffer);
        Ok(None)
    }

    /// Those for later: the last ones of the call.
    pub(crate) fn views(&self) -> Vec<TensorView<'_>> {
        self.later.iter().map(Buffer::view).collect()
    }

    /// The shapes of all.
    pub(crate) fn into_shapes(self) -> Vec<Shape> {
        self.shapes
    }
}
