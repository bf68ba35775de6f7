//! Owns the axes of histograms as Python sees them. Knows no counts; the searching of bins is the core's.

use std::hash::{Hash, Hasher};

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyFloat;
use tensorstats_core::Axis;
use tensorstats_core::axis::MAX_BINS;

use crate::arrays;
use crate::errors::to_py;

/// What `Regular`, `Variable`, `LogLinear` and `Linear` share: axes are equal when they are of one kind and put every value into the same bin.
#[pyclass(frozen, subclass, eq, hash, name = "Axis", module = "tensorstats._core")]
#[derive(PartialEq)]
pub(crate) struct PyAxis(Axis);

impl PyAxis {
    fn of(axis: tensorstats_core::Result<Axis>) -> PyResult<PyClassInitializer<Self>> {
        axis.map(|axis| PyClassInitializer::from(Self(axis))).map_err(to_py)
    }
}

impl Hash for PyAxis {
    fn hash<H: Hasher>(&self, state: &mut H) {
        core::mem::discriminant(&self.0).hash(state);
        match &self.0 {
            Axis::LogLinear { precision } => precision.hash(state),
            Axis::Linear { bins } => bins.hash(state),
            // Adding zero makes -0 of an edge +0, which equals it.
            axis => edges(axis).iter().for_each(|edge| (edge + 0.0).to_bits().hash(state)),
        }
    }
}

/// What a pickle keeps of an axis: its class, and the arguments for it.
type Reduced<'py, A> = (Bound<'py, PyAny>, A);

fn edges(axis: &Axis) -> &[f64] {
    axis.edges().map(|edges| edges.values()).unwrap_or_default()
}

/// A whole number of Python's, which errors call `name`.
fn whole(value: &Bound<'_, PyAny>, name: &str) -> PyResult<i64> {
    value.extract::<i64>().map_err(|error| {
        let shown = value.repr().map_or_else(|_| String::new(), |r| r.to_string());
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            return PyValueError::new_err(format!("{name} must fit into 64 bits, got: {shown}"));
        }
        PyTypeError::new_err(format!("{name} must be a whole number, got: {shown}"))
    })
}

/// A float in Python's digits.
fn digits(py: Python<'_>, x: f64) -> PyResult<String> {
    Ok(PyFloat::new(py, x).repr()?.to_string())
}

/// Equal bins from `start` to `stop`: bin `i` holds `edges[i] <= x < edges[i + 1]`, the last its upper edge too.
///
/// Parameters
/// ----------
/// bins
///     Number of bins, at least 1.
/// start, stop
///     First and last edge, finite and increasing. The edges between are `numpy.linspace(start, stop, bins + 1)`, bit for bit.
///
/// Raises
/// ------
/// ValueError
///     Too few or too many bins, or a range that is not finite, not increasing or too narrow for float64 edges.
///
/// Examples
/// --------
/// >>> from tensorstats import axis
/// >>> axis.Regular(4, 0.0, 1.0).edges
/// array([0.  , 0.25, 0.5 , 0.75, 1.  ])
#[pyclass(frozen, extends = PyAxis, name = "Regular", module = "tensorstats.axis")]
pub(crate) struct PyRegular;

#[pymethods]
impl PyRegular {
    #[new]
    fn new(py: Python<'_>, bins: &Bound<'_, PyAny>, start: f64, stop: f64) -> PyResult<PyClassInitializer<Self>> {
        let bins = whole(bins, "bins")?;
        let count = usize::try_from(bins).ok().filter(|&n| n >= 1 && n as u64 <= MAX_BINS);
        let count =
            count.ok_or_else(|| PyValueError::new_err(format!("bins must be in [1, {MAX_BINS}], got: {bins}")))?;
        let edges = if !start.is_finite() || !stop.is_finite() {
            vec![start, stop] // refused by the core
        } else if (stop - start).is_finite() {
            arrays::linspace(py, start, stop, count + 1)?
        } else {
            // The width is beyond float64: the edges of half the range, doubled.
            arrays::linspace(py, start / 2.0, stop / 2.0, count + 1)?.into_iter().map(|edge| 2.0 * edge).collect()
        };
        Ok(PyAxis::of(Axis::regular(start, stop, edges))?.add_subclass(Self))
    }

    /// Number of bins.
    #[getter]
    fn bins(slf: PyRef<'_, Self>) -> usize {
        Self::__len__(slf)
    }

    /// First edge.
    #[getter]
    fn start(slf: PyRef<'_, Self>) -> Option<f64> {
        edges(&slf.as_super().0).first().copied()
    }

    /// Last edge.
    #[getter]
    fn stop(slf: PyRef<'_, Self>) -> Option<f64> {
        edges(&slf.as_super().0).last().copied()
    }

    /// The edges, float64, one more than there are bins.
    #[getter]
    fn edges(slf: PyRef<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        arrays::floats(slf.py(), edges(&slf.as_super().0))
    }

    fn __len__(slf: PyRef<'_, Self>) -> usize {
        edges(&slf.as_super().0).len().saturating_sub(1)
    }

    fn __reduce__(slf: Bound<'_, Self>) -> Reduced<'_, (usize, Option<f64>, Option<f64>)> {
        let arguments = (Self::bins(slf.borrow()), Self::start(slf.borrow()), Self::stop(slf.borrow()));
        (slf.get_type().into_any(), arguments)
    }

    fn __repr__(slf: PyRef<'_, Self>) -> PyResult<String> {
        let (py, edges) = (slf.py(), edges(&slf.as_super().0));
        let [start, stop] = [edges.first(), edges.last()].map(|edge| digits(py, edge.copied().unwrap_or(f64::NAN)));
        Ok(format!("Regular({}, {}, {})", edges.len().saturating_sub(1), start?, stop?))
    }
}

/// Bins between any increasing edges: bin `i` holds `edges[i] <= x < edges[i + 1]`, the last bin its upper edge too.
///
/// Parameters
/// ----------
/// edges
///     At least two finite, strictly increasing numbers.
///
/// Raises
/// ------
/// ValueError
///     Too few edges, or edges that are not finite or do not increase; the message names the first such pair.
///
/// Examples
/// --------
/// >>> from tensorstats import axis
/// >>> len(axis.Variable([0.0, 0.1, 1.0, 10.0]))
/// 3
#[pyclass(frozen, extends = PyAxis, name = "Variable", module = "tensorstats.axis")]
pub(crate) struct PyVariable;

#[pymethods]
impl PyVariable {
    #[new]
    fn new(edges: &Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyAxis::of(Axis::variable(arrays::to_floats(edges, "edges")?))?.add_subclass(Self))
    }

    /// The edges, float64, one more than there are bins.
    #[getter]
    fn edges(slf: PyRef<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        arrays::floats(slf.py(), edges(&slf.as_super().0))
    }

    fn __len__(slf: PyRef<'_, Self>) -> usize {
        edges(&slf.as_super().0).len().saturating_sub(1)
    }

    fn __reduce__(slf: Bound<'_, Self>) -> PyResult<Reduced<'_, (Bound<'_, PyAny>,)>> {
        let edges = Self::edges(slf.borrow())?;
        Ok((slf.get_type().into_any(), (edges,)))
    }

    fn __repr__(slf: PyRef<'_, Self>) -> PyResult<String> {
        let (py, edges) = (slf.py(), edges(&slf.as_super().0));
        let shown = |edges: &[f64]| edges.iter().map(|&x| digits(py, x)).collect::<PyResult<Vec<_>>>();
        let parts = match edges {
            [a, b, c, _, .., y, z] if edges.len() > 6 => {
                [shown(&[*a, *b, *c])?, vec!["...".to_owned()], shown(&[*y, *z])?].concat()
            }
            few => shown(few)?,
        };
        Ok(format!("Variable([{}])", parts.join(", ")))
    }
}

/// Bins by sign, power of two and the top `precision` bits of the mantissa: no range needed, quantiles with a bound.
///
/// Every power of two is cut into `2**precision` equal bins, so a bin's values differ by less than a share `2**-precision`. Zeros have a
/// count of their own. The bin of a value is the same whatever dtype it was counted from, subnormals included. `LogLinear()` is the axis of
/// everything that was told no other: of `histogram`, `Histogram`, `summary_and_histogram` and `watch`.
///
/// Parameters
/// ----------
/// precision
///     From 0 (powers of two) to 10 (a value of float16 each). 7 holds every value of bfloat16, 3 of float8_e4m3fn, 2 of float8_e5m2.
///
/// Raises
/// ------
/// ValueError
///     `precision` is not in [0, 10].
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import tensorstats as ts
/// >>> h = ts.histogram(np.array([1.0, 1.5, 2.0, 3.0]), ts.axis.LogLinear(0))
/// >>> h.to_numpy()
/// (array([2, 2]), array([1., 2., 4.]))
#[pyclass(frozen, extends = PyAxis, name = "LogLinear", module = "tensorstats.axis")]
pub(crate) struct PyLogLinear;

/// What axes and histograms have when nothing else is asked for.
const DEFAULT_PRECISION: i64 = 6;

#[pymethods]
impl PyLogLinear {
    #[new]
    #[pyo3(signature = (precision = None), text_signature = "(precision=6)")]
    fn new(precision: Option<&Bound<'_, PyAny>>) -> PyResult<PyClassInitializer<Self>> {
        let precision = precision.map_or(Ok(DEFAULT_PRECISION), |value| whole(value, "precision"))?;
        Ok(PyAxis::of(Axis::log_linear(precision))?.add_subclass(Self))
    }

    /// Mantissa bits kept.
    #[getter]
    fn precision(slf: PyRef<'_, Self>) -> u8 {
        if let Axis::LogLinear { precision } = slf.as_super().0 { precision } else { 0 }
    }

    fn __reduce__(slf: Bound<'_, Self>) -> Reduced<'_, (u8,)> {
        let precision = Self::precision(slf.borrow());
        (slf.get_type().into_any(), (precision,))
    }

    fn __repr__(slf: PyRef<'_, Self>) -> String {
        slf.as_super().0.to_string()
    }
}

/// Equal bins for data whose range is not known: their width is the power of two that the values need.
///
/// Bin `i` holds `i * width <= x < (i + 1) * width`. The width is the smallest power of two at which at most `bins` bins reach from the
/// smallest finite value to the largest, and at least `math.ulp` of the largest magnitude; when the range grows, pairs of neighbouring bins
/// become one. So it follows from the set of values alone: the order, the cuts and the threads they were counted in, and merging, change
/// nothing. More than half of `bins` are in use unless the values are that close together.
///
/// Parameters
/// ----------
/// bins
///     Most bins, from 2 to 2^24.
///
/// Raises
/// ------
/// ValueError
///     `bins` is not in [2, 2^24].
///
/// Notes
/// -----
/// Values are compared with the edges exactly, 64-bit integers included. Edges are exact float64 numbers; those beyond its range are its
/// largest or smallest number. A constant is in one bin, shown as wide as its power of two (1 for zero). ±inf are in the flow bins and NaN in
/// none, as on every axis.
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import tensorstats as ts
/// >>> h = ts.Histogram(ts.axis.Linear(4)).update(np.array([0.1, 0.2, 0.9]))
/// >>> h.to_numpy()
/// (array([2, 0, 0, 1]), array([0.  , 0.25, 0.5 , 0.75, 1.  ]))
/// >>> h.update(np.array([-1.5])).to_numpy()
/// (array([1, 0, 3]), array([-2., -1.,  0.,  1.]))
#[pyclass(frozen, extends = PyAxis, name = "Linear", module = "tensorstats.axis")]
pub(crate) struct PyLinear;

#[pymethods]
impl PyLinear {
    #[new]
    #[pyo3(signature = (bins = None), text_signature = "(bins=256)")]
    fn new(bins: Option<&Bound<'_, PyAny>>) -> PyResult<PyClassInitializer<Self>> {
        let bins = bins.map_or(Ok(256), |value| whole(value, "bins"))?;
        Ok(PyAxis::of(Axis::linear(bins))?.add_subclass(Self))
    }

    /// Most bins.
    #[getter]
    fn bins(slf: PyRef<'_, Self>) -> u64 {
        if let Axis::Linear { bins } = slf.as_super().0 { bins } else { 0 }
    }

    fn __reduce__(slf: Bound<'_, Self>) -> Reduced<'_, (u64,)> {
        let bins = Self::bins(slf.borrow());
        (slf.get_type().into_any(), (bins,))
    }

    fn __repr__(slf: PyRef<'_, Self>) -> String {
        slf.as_super().0.to_string()
    }
}

/// The axis of a Python argument; where there is none, that of everything that was told no other.
pub(crate) fn of(object: Option<&Bound<'_, PyAny>>) -> PyResult<Axis> {
    let Some(object) = object else { return Axis::log_linear(DEFAULT_PRECISION).map_err(to_py) };
    let axis = object.cast::<PyAxis>().map(|axis| axis.get().0.clone());
    axis.map_err(|_| {
        let kind = object.get_type().name().map_or_else(|_| "?".to_owned(), |n| n.to_string());
        PyTypeError::new_err(format!(
            "axis must be an axis.Regular, axis.Variable, axis.LogLinear or axis.Linear, got: {kind}; \
             hint: bins= of ts.histogram takes a number of bins or their edges"
        ))
    })
}

/// The Python object of an axis.
pub(crate) fn shown(py: Python<'_>, axis: Axis) -> PyResult<Bound<'_, PyAny>> {
    Ok(match axis {
        Axis::Regular { .. } => Bound::new(py, PyAxis::of(Ok(axis))?.add_subclass(PyRegular))?.into_any(),
        Axis::Variable { .. } => Bound::new(py, PyAxis::of(Ok(axis))?.add_subclass(PyVariable))?.into_any(),
        Axis::LogLinear { .. } => Bound::new(py, PyAxis::of(Ok(axis))?.add_subclass(PyLogLinear))?.into_any(),
        Axis::Linear { .. } => Bound::new(py, PyAxis::of(Ok(axis))?.add_subclass(PyLinear))?.into_any(),
    })
}
