//! Owns how rows that a device has left of a tensor become states. Knows nothing of devices; the arithmetic is the core's.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tensorstats_core::device::{self, Counted};
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Sketch};

use crate::errors::to_py;
use crate::memory::dims::Shape;
use crate::states::formats;
use crate::states::summary::PySummary;
use crate::states::summary::state::State;
use crate::states::units::PyUnitActivity;

/// The 64-bit integers of native-endian bytes.
fn integers(rows: &[u8]) -> PyResult<Vec<i64>> {
    let (numbers, rest) = rows.as_chunks();
    if !rest.is_empty() {
        return Err(PyValueError::new_err(format!("rows must be whole 64-bit integers, got {} bytes", rows.len())));
    }
    Ok(numbers.iter().map(|&bytes| i64::from_ne_bytes(bytes)).collect())
}

/// The summary of a tensor that a device has counted, and the row-major position of its first value that is not finite, where known.
#[pyfunction]
#[pyo3(signature = (rows, dtype, shape, moments, formats, scale, fixed, /))]
pub(crate) fn summary_of_rows(
    rows: &[u8],
    dtype: &str,
    shape: Vec<i64>,
    moments: u32,
    formats: &Bound<'_, PyAny>,
    scale: f64,
    fixed: bool,
) -> PyResult<(PySummary, Option<u64>)> {
    let fits = formats::asked(Some(formats), scale)?;
    let dtype = Dtype::from_name(dtype).map_err(to_py)?;
    let moments = Moments::from_number(moments).map_err(to_py)?;
    let counted = Counted { dtype, moments, fits: fits.as_ref(), fixed };
    let (summary, first) = device::summary(&integers(rows)?, counted).map_err(to_py)?;
    let shape = Shape::One(shape.as_slice().into());
    Ok((PySummary::wrap(State { summary, sketch: Sketch::default(), shape }), first))
}

/// The activity of a tensor's units that a device has counted.
#[pyfunction]
#[pyo3(signature = (rows, units, dim, saturation, fixed, /))]
pub(crate) fn units_of_rows(
    rows: &[u8],
    units: usize,
    dim: i64,
    saturation: Option<(f64, f64)>,
    fixed: bool,
) -> PyResult<PyUnitActivity> {
    let activity = device::unit_activity(&integers(rows)?, units, dim, saturation, fixed).map_err(to_py)?;
    Ok(PyUnitActivity::wrap(activity))
}
