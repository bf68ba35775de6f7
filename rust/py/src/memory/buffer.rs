//! Owns the door from Python: any array-like object becomes a tensor view, or one clear error. Knows nothing of statistics.
//!
//! Three ways in, fastest first: torch's exchange functions, `__dlpack__` of a plain numpy array, and for everything else
//! `tensorstats._arrays.export`, which knows the quirks of each library.

use core::ffi::c_void;

use pyo3::exceptions::{PyBufferError, PyException, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use tensorstats_core::{Dtype, TensorView};

use crate::memory::codes;
use crate::memory::dlpack::{Exchange, Managed, Tensor};
use crate::memory::torch;
use crate::package;

/// Host memory: plain, pinned by CUDA or ROCm, or managed.
const HOST_DEVICES: [i32; 4] = [1, 3, 11, 13];

/// Below this many bytes a tensor is counted without letting other threads run: the work is shorter than the hand-over.
const SMALL_BYTES: u64 = 64 << 10;

/// Dimensions described without an allocation.
const INLINE_DIMS: usize = 8;

/// A tensor's shape and strides, copied out of the producer's hands, and what keeps its memory alive.
pub(crate) struct Buffer {
    data: *const c_void,
    dtype: Dtype,
    ndim: usize,
    inline: [[i64; INLINE_DIMS]; 2],
    heap: Vec<i64>,
    dense: bool,
    /// Keeps the memory alive; `None` for a borrow that ends before Python code runs again.
    #[expect(dead_code, reason = "held for its drop")]
    owner: Option<Owner>,
}

/// What keeps memory alive.
#[expect(dead_code, reason = "held for their drops")]
enum Owner {
    Producer(Managed),
    Held(Py<PyHeld>),
}

/// A tensor that was asked for its memory once, for several calls of the core.
#[pyclass(frozen, name = "Held", module = "tensorstats._core")]
pub(crate) struct PyHeld(Buffer);

#[pymethods]
impl PyHeld {
    #[new]
    #[pyo3(signature = (x, /))]
    fn new(x: &Bound<'_, PyAny>) -> PyResult<Self> {
        Buffer::here(x).map(Self)
    }
}

// SAFETY: the memory is kept alive by `owner` and only read; DLPack lets a deleter run on any thread (producers that need the GIL
// take it).
unsafe impl Send for Buffer {}
// SAFETY: as above; a buffer has no interior mutability.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Reads any array-like object; `None` for a torch tensor of another device, which is for [`package::door`]. Small torch tensors are borrowed:
    /// see [`Buffer::is_small`].
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        match Self::of_torch(object, Some(SMALL_BYTES))? {
            Some(buffer) => Ok(Some(buffer)),
            None => Self::of_numpy_or_other(object),
        }
    }

    /// The same, never borrowed: other Python code may run while it is in use.
    pub(crate) fn owned(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        match Self::of_torch(object, None)? {
            Some(buffer) => Ok(Some(buffer)),
            None => Self::of_numpy_or_other(object),
        }
    }

    /// The same for what has no door: a tensor of another device is refused.
    pub(crate) fn here(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::owned(object)?.map_or_else(|| Err(refused(object)), Ok)
    }

    /// A mask, which may also be a list, never borrowed, where there is one; `None` for a torch tensor of another device. It is read before its
    /// tensor: a borrowed one must be used before other Python code runs.
    #[expect(clippy::option_option, reason = "whether it is in reach, and whether there is one")]
    pub(crate) fn of_mask(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Option<Self>>> {
        static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let Some(object) = object else { return Ok(Some(None)) };
        let mask = if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
            Self::owned(&AS_ARRAY.import(object.py(), "numpy", "asarray")?.call1((object,))?)
        } else {
            Self::owned(object)
        };
        Ok(mask?.map(Some))
    }

    /// Whether [`Buffer::of_ordinary_tensor`] would take an object.
    pub(crate) fn is_ordinary_tensor(object: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(Self::borrowed(object)?.is_some())
    }

    /// A plain torch tensor or parameter in host memory; `None` for anything else. Small ones are borrowed: see [`Buffer::is_small`].
    pub(crate) fn of_ordinary_tensor(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        Self::of_torch(object, Some(SMALL_BYTES))
    }

    fn of_numpy_or_other(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if is_plain_numpy(object)
            && let Some(buffer) = Self::of_numpy(object)?
        {
            return Ok(Some(buffer));
        }
        Self::of_other(object)
    }

    /// A numpy array through its own method; `None` when it needs the longer way.
    fn of_numpy(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        // Without arguments the call costs a third, but read-only arrays are refused: DLPack before 1.0 could not say so.
        let legacy = object.call_method0(intern!(object.py(), "__dlpack__"));
        let Ok(capsule) = legacy.or_else(|_| export_versioned(object)) else { return Ok(None) };
        let managed = Managed::from_capsule(&capsule)?;
        let tensor = managed.tensor();
        // The longer way knows what to say about a dtype that we do not read.
        if codes::dtype_of(tensor.dtype).is_none() {
            return Ok(None);
        }
        Self::new(tensor, Some(managed), None).map(Some)
    }

    /// A plain torch tensor or parameter through its class's C functions; `None` when it is neither, or needs the longer way.
    /// One of at most `borrow` bytes is borrowed.
    fn of_torch(object: &Bound<'_, PyAny>, borrow: Option<u64>) -> PyResult<Option<Self>> {
        let Some((exchange, tensor)) = Self::borrowed(object)? else { return Ok(None) };
        let borrowed = Self::new(tensor, None, None)?;
        if borrow.is_some_and(|most| borrowed.bytes() <= most) {
            return Ok(Some(borrowed));
        }
        let managed = exchange.manage(object)?;
        Self::new(managed.tensor(), Some(managed), None).map(Some)
    }

    /// What a plain torch tensor says of itself, until Python code runs again; `None` for anything that the core does not read as it is.
    fn borrowed(object: &Bound<'_, PyAny>) -> PyResult<Option<(Exchange, Tensor)>> {
        let Some(exchange) = torch::exchange_of(object) else { return Ok(None) };
        // DLPack does not see the lazy negation that views of conjugated tensors carry.
        if object.call_method0(intern!(object.py(), "is_neg"))?.is_truthy()? {
            return Ok(None);
        }
        let Ok(tensor) = exchange.borrow(object) else { return Ok(None) };
        // torch has tensors of zeros without memory.
        let whole = !codes::is_byte_integer(tensor.dtype) || torch::has_whole_bytes(object)?;
        let readable = whole
            && HOST_DEVICES.contains(&tensor.device.kind)
            && codes::dtype_of(tensor.dtype).is_some()
            && !tensor.data.is_null();
        Ok(readable.then_some((exchange, tensor)))
    }

    /// Through the Python side: detach, resolve, reinterpret, or refuse with a reason. Here alone it is decided where a tensor is counted.
    fn of_other(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(held) = object.cast::<PyHeld>() {
            return Ok(Some(Self::shared(held)));
        }
        let py = object.py();
        let exported: Option<(Bound<'_, PyAny>, Option<String>)> = package::call(py, "export", (object,))?.extract()?;
        let Some((exporter, name)) = exported else { return Ok(None) };
        let capsule = match export_versioned(&exporter) {
            // Exporters from before DLPack 1.0 know no `max_version`.
            Err(error)
                if error.is_instance_of::<PyTypeError>(py) && error.value(py).to_string().contains("argument") =>
            {
                exporter.call_method0(intern!(py, "__dlpack__"))
            }
            other => other,
        };
        let capsule = match capsule {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                // Raises: whoever owns the memory may not say what went wrong with which object.
                package::call(py, "refuse_export", (object, error))?
            }
            other => other?,
        };
        let managed = Managed::from_capsule(&capsule)?;
        let dtype = name.as_deref().map(Dtype::from_name).transpose().map_err(crate::errors::to_py)?;
        Self::new(managed.tensor(), Some(managed), dtype).map(Some)
    }

    /// The memory of a tensor that is held.
    fn shared(held: &Bound<'_, PyHeld>) -> Self {
        let Self { data, dtype, ndim, inline, heap, dense, .. } = &held.get().0;
        let owner = Some(Owner::Held(held.clone().unbind()));
        Self { data: *data, dtype: *dtype, ndim: *ndim, inline: *inline, heap: heap.clone(), dense: *dense, owner }
    }

    /// Checks a description and copies shape and strides out of it. `named` overrides the dtype by one of the same width.
    fn new(tensor: Tensor, owner: Option<Managed>, named: Option<Dtype>) -> PyResult<Self> {
        if !HOST_DEVICES.contains(&tensor.device.kind) {
            return Err(PyTypeError::new_err(format!(
                "the core reads host memory only, got DLPack device: ({}, {})",
                tensor.device.kind, tensor.device.index
            )));
        }
        let dtype = match (codes::dtype_of(tensor.dtype), named) {
            (_, Some(named)) if usize::from(tensor.dtype.bits) == 8 * named.size() && tensor.dtype.lanes == 1 => named,
            (_, Some(named)) => {
                return Err(PyTypeError::new_err(format!(
                    "{}-bit memory cannot hold dtype: {}",
                    tensor.dtype.bits,
                    named.name()
                )));
            }
            (Some(dtype), None) => dtype,
            (None, None) => return Err(codes::refused(tensor.dtype)),
        };
        let ndim = usize::try_from(tensor.ndim).map_err(|_| {
            PyBufferError::new_err(format!("a tensor's rank must not be negative, got: {}", tensor.ndim))
        })?;
        let mut buffer = Self {
            data: tensor.data.cast_const().wrapping_byte_add(tensor.byte_offset as usize),
            dtype,
            ndim,
            inline: [[0; INLINE_DIMS]; 2],
            heap: Vec::new(),
            dense: tensor.strides.is_null(),
            owner: owner.map(Owner::Producer),
        };
        if ndim > INLINE_DIMS {
            buffer.heap = vec![0; 2 * ndim];
        }
        let (shape, strides) = buffer.dims_mut();
        if ndim > 0 {
            // SAFETY: the producer describes `ndim` dimensions; strides may be null, which means dense in C order.
            unsafe {
                shape.copy_from_slice(core::slice::from_raw_parts(tensor.shape, ndim));
                if !tensor.strides.is_null() {
                    strides.copy_from_slice(core::slice::from_raw_parts(tensor.strides, ndim));
                }
            }
        }
        check_extent(buffer.shape(), tensor.data.is_null())?;
        buffer.dense = buffer.dense || is_dense(buffer.shape(), buffer.strides());
        Ok(buffer)
    }

    fn dims_mut(&mut self) -> (&mut [i64], &mut [i64]) {
        let ndim = self.ndim;
        if ndim > INLINE_DIMS {
            self.heap.split_at_mut(ndim)
        } else {
            let [shape, strides] = &mut self.inline;
            (&mut shape[..ndim], &mut strides[..ndim])
        }
    }

    /// Length of each dimension.
    pub(crate) fn shape(&self) -> &[i64] {
        if self.ndim > INLINE_DIMS { &self.heap[..self.ndim] } else { &self.inline[0][..self.ndim] }
    }

    fn strides(&self) -> &[i64] {
        if self.ndim > INLINE_DIMS { &self.heap[self.ndim..] } else { &self.inline[1][..self.ndim] }
    }

    /// Whether the tensor is to be counted at once, without detaching: it costs little, and a small tensor of torch is only borrowed,
    /// which ends as soon as Python code may run again.
    pub(crate) fn is_small(&self) -> bool {
        self.bytes() <= SMALL_BYTES
    }

    /// What its values take, repeats included.
    pub(crate) fn bytes(&self) -> u64 {
        self.view().count().saturating_mul(self.dtype.size() as u64)
    }

    /// The tensor.
    pub(crate) fn view(&self) -> TensorView<'_> {
        let strides = if self.dense { None } else { Some(self.strides()) };
        // SAFETY: the producer vouches for its description; `owner`, or the caller of a borrow, keeps the memory alive for `'_`.
        unsafe { TensorView::new(self.data.cast(), self.dtype, self.shape(), strides) }
    }
}

/// The error about a torch tensor of another device, where there is no door.
pub(super) fn refused(object: &Bound<'_, PyAny>) -> PyErr {
    let raised = package::call(object.py(), "refuse_device", (object,));
    raised.err().unwrap_or_else(|| PyTypeError::new_err("the core reads host memory only"))
}

/// Refuses a shape that no memory can have.
fn check_extent(shape: &[i64], null: bool) -> PyResult<()> {
    if shape.iter().any(|&n| n < 0) {
        return Err(PyBufferError::new_err(format!("a tensor's shape must not be negative, got: {shape:?}")));
    }
    let count = shape.iter().try_fold(1_i64, |product, &n| product.checked_mul(n));
    match count {
        _ if shape.contains(&0) => Ok(()),
        None => {
            Err(PyBufferError::new_err(format!("a tensor must have fewer than 2^63 elements, got shape: {shape:?}")))
        }
        Some(_) if null => {
            Err(PyBufferError::new_err(format!("a tensor of shape {shape:?} must have memory, got a null pointer")))
        }
        Some(_) => Ok(()),
    }
}

/// Whether strides are those of C order, dimensions of length one and empty tensors aside.
fn is_dense(shape: &[i64], strides: &[i64]) -> bool {
    let mut expected = 1;
    if shape.contains(&0) {
        return true;
    }
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected *= n;
        fits
    })
}

/// `object.__dlpack__(max_version=(1, 1))`: the form that also hands out read-only memory.
fn export_versioned<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static ARGUMENTS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let py = object.py();
    let arguments = ARGUMENTS.get_or_try_init(py, || {
        let arguments = PyDict::new(py);
        arguments.set_item("max_version", (1, 1))?;
        Ok::<_, PyErr>(arguments.unbind())
    })?;
    object.call_method(intern!(py, "__dlpack__"), (), Some(arguments.bind(py)))
}

fn is_plain_numpy(object: &Bound<'_, PyAny>) -> bool {
    static NDARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    NDARRAY.import(object.py(), "numpy", "ndarray").is_ok_and(|class| object.get_type().is(class))
}
