//! Owns what must be known of torch to read its tensors through C functions. Never imports it, and knows nothing of memory.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::memory::dlpack::Exchange;
use crate::package;

/// Whether a tensor of torch has a dtype of which every element is a byte: not `torch.int4` and the like.
pub(crate) fn has_whole_bytes(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static SIGNED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static UNSIGNED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let dtype = object.getattr(intern!(py, "dtype"))?;
    Ok(dtype.is(SIGNED.import(py, "torch", "int8")?) || dtype.is(UNSIGNED.import(py, "torch", "uint8")?))
}

/// torch's classes whose instances are plain strided memory, and their exchange functions.
struct Torch {
    tensor: Py<PyType>,
    parameter: Py<PyType>,
    exchange: Exchange,
}

/// The exchange functions for exactly `torch.Tensor` and `torch.nn.Parameter`. Subclasses may wrap other memory and go the longer way.
pub(crate) fn exchange_of(object: &Bound<'_, PyAny>) -> Option<Exchange> {
    static TORCH: PyOnceLock<Option<Torch>> = PyOnceLock::new();
    let py = object.py();
    if TORCH.get(py).is_none() {
        // torch is never imported for this: no tensor can arrive before somebody else imported it.
        let modules = py.import("sys").ok()?.getattr("modules").ok()?;
        let torch = modules.get_item("torch").ok()?;
        let tensor = torch.getattr("Tensor").ok()?.cast_into::<PyType>().ok()?;
        let parameter = torch.getattr("nn").ok()?.getattr("Parameter").ok()?.cast_into::<PyType>().ok()?;
        let found = Exchange::of_type(tensor.as_any()).map(|exchange| Torch {
            tensor: tensor.unbind(),
            parameter: parameter.unbind(),
            exchange,
        });
        if found.is_some() {
            // Threads of our own would share the cores with torch's, which wait busily for their next work.
            let shared = package::call(py, "share_torch_threads", ());
            drop(shared); // a runtime that cannot be found changes speed alone
        }
        let _ = TORCH.set(py, found);
    }
    let torch = TORCH.get(py)?.as_ref()?;
    let class = object.get_type();
    (class.is(&torch.tensor) || class.is(&torch.parameter)).then_some(torch.exchange)
}
