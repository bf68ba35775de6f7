//! Owns what a table of summaries holds, row by row. Knows nothing of Python classes or of counting.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Sketch, Summary};

use crate::errors::to_py;
use crate::memory::dims::Shape;
use crate::states::summary::state::State;

/// The states of many tensors, or their numbers alone. What only a repr shows is kept apart, so that it can go while the numbers stay where
/// they are.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    summaries: Vec<Summary>,
    /// Of every row, or empty.
    sketches: Vec<Sketch>,
    /// Of every row, or empty.
    shapes: Vec<Shape>,
}

impl Rows {
    /// No rows, and room for some.
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            summaries: Vec::with_capacity(rows),
            sketches: Vec::with_capacity(rows),
            shapes: Vec::with_capacity(rows),
        }
    }

    /// Empty summaries, one a row.
    pub(crate) fn empty(rows: usize) -> Self {
        Self { summaries: vec![Summary::new(Moments::Two); rows], ..Self::default() }
    }

    /// Appends a row.
    pub(crate) fn push(&mut self, summary: Summary, sketch: &Sketch, shape: Shape) {
        self.summaries.push(summary);
        self.sketches.push(*sketch);
        self.shapes.push(shape);
    }

    /// Appends a row that is the state of one tensor.
    pub(crate) fn push_state(&mut self, state: State) {
        self.push(state.summary, &state.sketch, state.shape);
    }

    pub(crate) fn len(&self) -> usize {
        self.summaries.len()
    }

    pub(crate) fn summaries(&self) -> &[Summary] {
        &self.summaries
    }

    /// Of every row, or empty.
    pub(crate) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// A copy of one row.
    pub(crate) fn state(&self, row: usize) -> Option<State> {
        let summary = self.summaries.get(row)?.clone();
        let sketch = self.sketches.get(row).copied().unwrap_or_default();
        let shape = self.shapes.get(row).cloned().unwrap_or(Shape::Nothing);
        Some(State { summary, sketch, shape })
    }

    /// Takes in as many rows, row by row. Rows that are numbers alone stay so, and add nothing but numbers.
    pub(crate) fn merge(&mut self, other: &Self) -> PyResult<()> {
        if self.len() != other.len() {
            return Err(PyValueError::new_err(format!(
                "a table of {} rows cannot take in one of {}",
                self.len(),
                other.len()
            )));
        }
        // All or nothing.
        for (mine, theirs) in self.summaries.iter().zip(&other.summaries) {
            mine.check_merge(theirs).map_err(to_py)?;
        }
        for (mine, theirs) in self.summaries.iter_mut().zip(&other.summaries) {
            mine.merge(theirs).map_err(to_py)?;
        }
        self.sketches.iter_mut().zip(&other.sketches).for_each(|(mine, theirs)| mine.merge(theirs));
        self.shapes.iter_mut().zip(&other.shapes).for_each(|(mine, theirs)| mine.merge(theirs));
        Ok(())
    }

    /// Lets go of all but the numbers.
    pub(crate) fn keep_numbers(&mut self) {
        (self.sketches, self.shapes) = (Vec::new(), Vec::new());
    }
}
