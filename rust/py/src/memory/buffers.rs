//! Owns the reading of many tensors for one call: which are used at once, and which later all together. Knows nothing of statistics.

use pyo3::prelude::*;
use tensorstats_core::TensorView;

use crate::errors::of_many;
use crate::memory::buffer::{Buffer, refused};
use crate::memory::dims::Shape;

/// What becomes of one tensor of a call.
pub(crate) enum Next {
    /// It is used at once, before any other Python code runs.
    Now(Buffer),
    /// It is used together with others.
    Later,
    /// It is a torch tensor of another device.
    Elsewhere,
}

/// The tensors of a call so far.
///
/// Small ones are used at once, without letting other threads run. From the first big one on all are kept for later: threads are begun for it
/// anyway, and what is small goes along.
#[derive(Default)]
pub(crate) struct Buffers {
    later: Vec<Buffer>,
    shapes: Vec<Shape>,
    seen: usize,
}

impl Buffers {
    /// None yet, and room for some.
    pub(crate) fn with_capacity(tensors: usize) -> Self {
        Self { later: Vec::new(), shapes: Vec::with_capacity(tensors), seen: 0 }
    }

    /// The next tensor of so many.
    pub(crate) fn next(&mut self, tensor: &Bound<'_, PyAny>, tensors: usize) -> PyResult<Next> {
        let first = self.later.is_empty();
        let buffer = if first { Buffer::of(tensor) } else { Buffer::owned(tensor) };
        let buffer = buffer.map_err(|error| of_many(tensor.py(), error, self.seen, tensors))?;
        self.seen += 1;
        let Some(buffer) = buffer else { return Ok(Next::Elsewhere) };
        self.shapes.push(Shape::One(buffer.shape().into()));
        if first && buffer.is_small() {
            return Ok(Next::Now(buffer));
        }
        self.later.push(buffer);
        Ok(Next::Later)
    }

    /// The same where other devices are refused: the tensor itself where it is to be used at once, else `None`.
    pub(crate) fn next_here(&mut self, tensor: &Bound<'_, PyAny>, tensors: usize) -> PyResult<Option<Buffer>> {
        match self.next(tensor, tensors)? {
            Next::Now(buffer) => Ok(Some(buffer)),
            Next::Later => Ok(None),
            Next::Elsewhere => Err(of_many(tensor.py(), refused(tensor), self.seen - 1, tensors)),
        }
    }

    /// Those for later: the last ones of the call.
    pub(crate) fn views(&self) -> Vec<TensorView<'_>> {
        self.later.iter().map(Buffer::view).collect()
    }

    /// The shapes of all but those elsewhere.
    pub(crate) fn into_shapes(self) -> Vec<Shape> {
        self.shapes
    }
}
