//! Owns the Python class `Histogram`. Arithmetic is the core's; this file only hands numbers over.

mod dict;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use tensorstats_core::allocation::check_memory;
use tensorstats_core::histogram::Bins;
use tensorstats_core::histogram::room::check_histogram;
use tensorstats_core::{Axis, Histogram};

use crate::arrays;
use crate::arrays::begins_a_sum;
use crate::errors::to_py;
use crate::memory::buffer::Buffer;
use crate::package;
use crate::run::{self, Threads};
use crate::states::axis;

/// Edges, and the counts of two histograms between them.
type Aligned<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Exact counts of values in the bins of an axis; mergeable.
///
/// Parameters
/// ----------
/// axis
///     `axis.Regular`, `axis.Variable`, `axis.LogLinear` or `axis.Linear`; `axis.LogLinear()` where none is given.
///
/// Notes
/// -----
/// A value falls into bin `i` when `edges[i] <= x < edges[i + 1]`; the last bin is closed, as numpy has it. Values are compared with the
/// float64 edges exactly, whatever their dtype. -inf and +inf are in `underflow` and `overflow`, NaN in no bin; all three have counts of
/// their own. The state is an unweighted histogram of the UHI protocol, so mplhep, hist and histoprint draw it.
///
/// Examples
/// --------
/// >>> import numpy as np
/// >>> import tensorstats as ts
/// >>> h = ts.Histogram(ts.axis.Regular(4, 0.0, 1.0))
/// >>> h.update(np.array([0.0, 0.1, 0.5, 1.0, 2.0, np.nan])).values()
/// array([2, 0, 1, 1])
/// >>> h.overflow, h.nan_count, h.count
/// (1, 1, 6)
#[pyclass(frozen, name = "Histogram", module = "tensorstats")]
pub(crate) struct PyHistogram(Mutex<Histogram>);

impl PyHistogram {
    pub(crate) fn wrap(histogram: Histogram) -> Self {
        Self(Mutex::new(histogram))
    }

    /// Held only for short copies and merges, never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, Histogram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether counts of the same axis can be taken in.
    pub(crate) fn check(&self, part: &Histogram) -> PyResult<()> {
        self.lock().check_merge(part).map_err(to_py)
    }

    /// Takes in counts of the same axis.
    pub(crate) fn add(&self, part: &Histogram) -> PyResult<()> {
        self.lock().merge(part).map_err(to_py)
    }

    /// A copy of its axis.
    pub(crate) fn own_axis(&self) -> Axis {
        self.lock().axis.clone()
    }

    /// A copy of its state.
    fn snapshot(&self) -> PyResult<Histogram> {
        self.lock().try_clone().map_err(to_py)
    }

    /// Edges and the counts between them; where nothing was counted, an empty bin from 0 to 1 as numpy has it.
    fn dense(&self) -> PyResult<(Vec<f64>, Vec<u64>)> {
        let state = self.lock();
        check_memory(2 * state.bytes(), "the bins of a histogram").map_err(to_py)?;
        let (edges, counts) = state.dense();
        Ok(if edges.is_empty() { (vec![0.0, 1.0], vec![0]) } else { (edges, counts) })
    }

    fn of(
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        mask: Option<&Bound<'_, PyAny>>,
        axis: &Axis,
        threads: usize,
    ) -> PyResult<Histogram> {
        let Some(chosen) = Buffer::of_mask(mask)? else { return Self::elsewhere(x, mask, axis) };
        let Some(buffer) = Buffer::of(x)? else { return Self::elsewhere(x, mask, axis) };
        check_histogram(axis, buffer.bytes(), threads).map_err(to_py)?;
        run::count_chosen(py, &buffer, chosen.as_ref(), threads, |view, options| Histogram::of(view, axis, options))
    }

    /// Of a torch tensor of another device.
    #[cold]
    pub(crate) fn elsewhere(x: &Bound<'_, PyAny>, mask: Option<&Bound<'_, PyAny>>, axis: &Axis) -> PyResult<Histogram> {
        let py = x.py();
        let found = package::door(py, "histogram", (x, axis::shown(py, axis.clone())?, mask))?;
        found.cast::<Self>()?.get().snapshot()
    }
}

#[pymethods]
impl PyHistogram {
    #[new]
    #[pyo3(signature = (axis = None, /))]
    fn new(axis: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let axis = axis::of(axis)?;
        check_histogram(&axis, 0, 0).map_err(to_py)?;
        Ok(Self::wrap(Histogram::new(axis)))
    }

    /// Counts the values of a tensor in, those where a mask is true; returns the state itself.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> h = ts.Histogram(ts.axis.Regular(2, 0.0, 2.0))
    /// >>> h.update(np.array([0.5, 1.5])).update(np.array([1.0])).values()
    /// array([1, 2])
    #[pyo3(signature = (x, /, *, r#where = None, threads = None))]
    fn update<'py>(
        slf: Bound<'py, Self>,
        x: &Bound<'py, PyAny>,
        r#where: Option<&Bound<'py, PyAny>>,
        threads: Option<Threads>,
    ) -> PyResult<Bound<'py, Self>> {
        let axis = slf.get().lock().axis.clone();
        let part = Self::of(slf.py(), x, r#where, &axis, run::threads(threads)?)?;
        slf.get().lock().merge(&part).map_err(to_py)?;
        Ok(slf)
    }

    /// Takes in another histogram of the same axis; returns the state itself.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> h = ts.histogram(np.array([1.0, 2.0]))
    /// >>> h.merge(ts.histogram(np.array([1e6, np.nan]))).count
    /// 4
    #[pyo3(signature = (other, /))]
    fn merge<'py>(slf: Bound<'py, Self>, other: &Self) -> PyResult<Bound<'py, Self>> {
        let part = other.snapshot()?;
        slf.get().lock().merge(&part).map_err(to_py)?;
        Ok(slf)
    }

    fn __add__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented().into_bound(py)) };
        let part = other.get().snapshot()?;
        let mut state = self.snapshot()?;
        state.merge(&part).map_err(to_py)?;
        Ok(Bound::new(py, Self::wrap(state))?.into_any())
    }

    fn __radd__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        if !begins_a_sum(other) {
            return Ok(py.NotImplemented().into_bound(py));
        }
        Ok(Bound::new(py, self.copy()?)?.into_any())
    }

    /// Forgets all counts.
    fn reset(&self) {
        let mut state = self.lock();
        *state = Histogram::new(state.axis.clone());
    }

    /// An independent copy.
    fn copy(&self) -> PyResult<Self> {
        self.snapshot().map(Self::wrap)
    }

    fn __copy__(&self) -> PyResult<Self> {
        self.copy()
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.copy()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        let Ok(other) = other.cast::<Self>() else { return false };
        let other = other.get().lock().to_bytes();
        let mine = self.lock().to_bytes();
        mine == other
    }

    /// How values are put into bins.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.histogram(np.array([1.0]), bins=2, range=(0, 4)).axis
    /// Regular(2, 0.0, 4.0)
    #[getter]
    fn axis<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let axis = self.lock().axis.clone();
        axis::shown(py, axis)
    }

    /// The bins as a sequence of `(low, high)`, as UHI wants them. For `LogLinear` and `Linear` those from the smallest to the largest value counted.
    #[getter]
    fn axes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let edges = self.edges(py)?;
        let bins = py.import("tensorstats._bins")?.getattr("Bins")?.call1((edges,))?;
        PyTuple::new(py, [bins])
    }

    /// `"COUNT"`: UHI's word for a histogram without weights.
    #[classattr]
    fn kind() -> &'static str {
        "COUNT"
    }

    /// Edges of the bins, float64, one more than there are bins. For `LogLinear` and `Linear` those from the smallest to the
    /// largest value counted; 0 and 1, around no value, when nothing was, as numpy has it. Of `LogLinear`, values below zero belong to the bin whose *upper* edge they touch.
    #[getter]
    fn edges<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let edges = self.dense()?.0;
        arrays::floats(py, &edges)
    }

    /// Counts of the bins, int64; with `flow`, underflow before and overflow after them.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> h = ts.histogram(np.array([-9.0, 0.5, 1.5, 1.6]), bins=2, range=(0, 2))
    /// >>> h.values(), h.values(flow=True)
    /// (array([1, 2]), array([1, 1, 2, 0]))
    #[pyo3(signature = (flow = false))]
    fn values<'py>(&self, py: Python<'py>, flow: bool) -> PyResult<Bound<'py, PyAny>> {
        let counts = self.dense()?.1;
        let (underflow, overflow) = {
            let state = self.lock();
            (state.underflow(), state.overflow())
        };
        let (before, after) = (flow.then_some(underflow), flow.then_some(overflow));
        arrays::counts(py, before.into_iter().chain(counts).chain(after))
    }

    /// As `values`, with the flow bins unless told otherwise.
    #[pyo3(signature = (flow = true))]
    fn view<'py>(&self, py: Python<'py>, flow: bool) -> PyResult<Bound<'py, PyAny>> {
        self.values(py, flow)
    }

    /// The same as `values`: a UHI histogram of kind `"COUNT"` has as many entries as its value says.
    #[pyo3(signature = (flow = false))]
    fn counts<'py>(&self, py: Python<'py>, flow: bool) -> PyResult<Bound<'py, PyAny>> {
        self.values(py, flow)
    }

    /// The same as `values`: the variance of a count is estimated by the count.
    #[pyo3(signature = (flow = false))]
    fn variances<'py>(&self, py: Python<'py>, flow: bool) -> PyResult<Bound<'py, PyAny>> {
        self.values(py, flow)
    }

    /// The pair that `numpy.histogram` returns: counts and edges.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.histogram(np.array([0.5, 1.5, 1.6]), bins=2, range=(0, 2)).to_numpy()
    /// (array([1, 2]), array([0., 1., 2.]))
    fn to_numpy<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (edges, counts) = self.dense()?;
        Ok((arrays::counts(py, counts)?, arrays::floats(py, &edges)?))
    }

    /// All values, NaN included.
    #[getter]
    fn count(&self) -> u64 {
        self.lock().count_all()
    }

    /// Values below the first edge, -inf included.
    #[getter]
    fn underflow(&self) -> u64 {
        self.lock().underflow()
    }

    /// Values beyond the last edge, +inf included.
    #[getter]
    fn overflow(&self) -> u64 {
        self.lock().overflow()
    }

    /// NaN.
    #[getter]
    fn nan_count(&self) -> u64 {
        self.lock().specials.nan
    }

    /// +inf.
    #[getter]
    fn posinf_count(&self) -> u64 {
        self.lock().specials.posinf
    }

    /// -inf.
    #[getter]
    fn neginf_count(&self) -> u64 {
        self.lock().specials.neginf
    }

    /// +0 and -0, of a `LogLinear` axis; None where zeros share a bin.
    #[getter]
    fn zero_count(&self) -> Option<u64> {
        if let Bins::Log(counts) = &self.lock().bins { Some(counts.zeros) } else { None }
    }

    /// The value below which a share `q` of all values but NaN lies.
    ///
    /// `LogLinear`: what `numpy.quantile(x, q, method="inverted_cdf")` gives, up to a relative error of `2**-(precision + 1)`, and exact
    /// when the precision holds every bit of the dtypes counted (2 for `float8_e5m2`, 3 for `float8_e4m3fn`, 7 for bfloat16 and the 8-bit
    /// integers, 10 for float16). Any other axis: linear inside the bin, off by at most its width; -inf or +inf where it lies below the
    /// first or beyond the last edge. NaN when there are no values. `q` is a number or an array of any shape.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> h = ts.histogram(np.arange(1000.0))
    /// >>> h.quantile(0.5), h.quantile([0.0, 1.0])
    /// (498.0, array([  0., 996.]))
    #[pyo3(signature = (q, /))]
    fn quantile<'py>(&self, q: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.snapshot()?;
        arrays::map(q, "q", |qs| qs.iter().map(|&q| state.quantile(q).map_err(to_py)).collect())
    }

    /// The share of all values but NaN that is at most `x`: the inverse of `quantile`.
    ///
    /// Linear inside a bin, so off by at most the share of the bin that holds `x`; exact on edges but for values equal to the edge, and
    /// exact everywhere where `quantile` is. What lies below the first edge is taken to be -inf, what lies beyond the last +inf. NaN when
    /// there are no values, or for NaN. `x` is a number or an array of any shape.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> ts.histogram(np.array([0.5, 1.5, 1.6, 3.0]), bins=4, range=(0, 4)).cdf(2.0)
    /// 0.75
    #[pyo3(signature = (x, /))]
    fn cdf<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.snapshot()?;
        arrays::map(x, "x", |xs| Ok(xs.iter().map(|&x| state.cdf(x)).collect()))
    }

    /// `quantile(0.5)`.
    #[getter]
    fn median(&self) -> PyResult<f64> {
        self.lock().quantile(0.5).map_err(to_py)
    }

    /// The interquartile range: `quantile(0.75) - quantile(0.25)`.
    #[getter]
    fn iqr(&self) -> PyResult<f64> {
        let state = self.lock();
        Ok(state.quantile(0.75).map_err(to_py)? - state.quantile(0.25).map_err(to_py)?)
    }

    /// The edges of the bins in common with another histogram of the same axis, and the counts of both between them.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> a, b = ts.histogram(np.array([1.0, 1.5]), ts.axis.LogLinear(0)), ts.histogram(np.array([3.0]), ts.axis.LogLinear(0))
    /// >>> a.aligned(b)
    /// (array([1., 2., 4.]), array([2, 0]), array([0, 1]))
    #[pyo3(signature = (other, /))]
    fn aligned<'py>(&self, py: Python<'py>, other: &Bound<'py, Self>) -> PyResult<Aligned<'py>> {
        let other = other.get().snapshot()?;
        let (edges, [mine, theirs]) = self.snapshot()?.aligned(&other).map_err(to_py)?;
        Ok((arrays::floats(py, &edges)?, arrays::counts(py, mine)?, arrays::counts(py, theirs)?))
    }

    /// The same values counted with fewer mantissa bits: exactly what a `LogLinear` axis of that precision would have counted.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> h = ts.histogram(np.array([1.0, 1.5, 2.0]))
    /// >>> h.lower_precision(0) == ts.histogram(np.array([1.0, 1.5, 2.0]), ts.axis.LogLinear(0))
    /// True
    #[pyo3(signature = (precision, /))]
    fn lower_precision(&self, precision: i64) -> PyResult<Self> {
        self.lock().lower_precision(precision).map(Self::wrap).map_err(to_py)
    }

    fn __repr__(&self) -> String {
        self.lock().to_string()
    }

    /// The versioned byte form.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> h = ts.histogram(np.array([1.0]))
    /// >>> ts.Histogram.from_bytes(h.to_bytes()) == h
    /// True
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let state = self.lock();
        // Place and count of each, twice: here and in Python's hands.
        check_memory(state.bytes().saturating_mul(4), "the bytes of a histogram").map_err(to_py)?;
        let bytes = state.to_bytes();
        drop(state);
        Ok(PyBytes::new(py, &bytes))
    }

    /// Reads `to_bytes` back.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        check_memory(3 * data.len() as u64, "a serialised Histogram").map_err(to_py)?;
        Histogram::from_bytes(data).map(Self::wrap).map_err(to_py)
    }

    /// Everything as plain Python values, in types that strict JSON knows.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> import tensorstats as ts
    /// >>> h = ts.histogram(np.array([0.5, 3.0]), bins=2, range=(0, 4))
    /// >>> ts.Histogram.from_dict(h.to_dict()) == h
    /// True
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict::to_dict(py, &self.snapshot()?)
    }

    /// Reads `to_dict` back; an error that names the key for anything else.
    #[staticmethod]
    #[pyo3(signature = (data, /))]
    fn from_dict(data: &Bound<'_, PyDict>) -> PyResult<Self> {
        dict::from_dict(data).map(Self::wrap)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let rebuild = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((rebuild, (self.to_bytes(py)?,)))
    }
}

/// Counts one tensor.
#[pyfunction]
#[pyo3(signature = (x, axis = None, /, threads = None, r#where = None))]
pub(crate) fn histogram(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    axis: Option<&Bound<'_, PyAny>>,
    threads: Option<Threads>,
    r#where: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyHistogram> {
    PyHistogram::of(py, x, r#where, &axis::of(axis)?, run::threads(threads)?).map(PyHistogram::wrap)
}
