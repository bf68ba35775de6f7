//! Owns what a `Summary` object holds: the numbers, a sketch for its repr, and which tensors it was made of. Arithmetic is the core's.

use pyo3::prelude::*;
use tensorstats_core::kernel::Moments;
use tensorstats_core::summary::formats::Fits;
use tensorstats_core::{Sketch, Summary};

use crate::errors::to_py;
use crate::memory::buffer::Buffer;
use crate::memory::dims::Shape;
use crate::run;

/// What a `Summary` object holds: the numbers, a sketch for its repr, and the shape while it is of one tensor.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) summary: Summary,
    pub(crate) sketch: Sketch,
    pub(crate) shape: Shape,
}

impl State {
    pub(crate) fn new(moments: Moments, fits: Option<&Fits>) -> Self {
        let summary = Summary::with_formats(moments, fits);
        Self { summary, sketch: Sketch::default(), shape: Shape::Nothing }
    }

    /// Of one tensor; `elsewhere` counts a torch tensor of another device.
    pub(crate) fn of(
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        moments: Moments,
        threads: usize,
        elsewhere: impl FnOnce() -> PyResult<Self>,
    ) -> PyResult<Self> {
        let Some(buffer) = Buffer::of(x)? else { return elsewhere() };
        let (summary, sketch) =
            run::count(py, &buffer, threads, |view, options| (Summary::of(view, moments, options), Sketch::of(view)))?;
        Ok(Self { summary, sketch, shape: Shape::One(buffer.shape().into()) })
    }

    /// Of the elements for which a mask is true, keeping formats; both only where given. `elsewhere` does it where the tensor, or the mask, is of
    /// another device.
    pub(crate) fn of_chosen(
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        mask: Option<&Bound<'_, PyAny>>,
        moments: Moments,
        fits: Option<&Fits>,
        threads: usize,
        elsewhere: impl FnOnce() -> PyResult<Self>,
    ) -> PyResult<Self> {
        let Some(chosen) = Buffer::of_mask(mask)? else { return elsewhere() };
        let Some(buffer) = Buffer::of(x)? else { return elsewhere() };
        let (summary, sketch) = run::count_chosen(py, &buffer, chosen.as_ref(), threads, |view, options| {
            (Summary::of_formats(view, moments, fits, options), Sketch::of(view))
        })?;
        Ok(Self { summary, sketch, shape: Shape::One(buffer.shape().into()) })
    }

    pub(crate) fn merge(&mut self, other: &Self) -> PyResult<()> {
        self.summary.merge(&other.summary).map_err(to_py)?;
        self.sketch.merge(&other.sketch);
        self.shape.merge(&other.shape);
        Ok(())
    }
}
