//! Owns the codes by which DLPack names dtypes. Knows nothing of memory.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use tensorstats_core::Dtype;

use crate::memory::dlpack::DataType;

/// The dtype of DLPack's codes; `None` for one that the core does not read.
pub(crate) fn dtype_of(codes: DataType) -> Option<Dtype> {
    if codes.lanes != 1 {
        return None;
    }
    Some(match (codes.code, codes.bits) {
        (0, 8) => Dtype::I8,
        (0, 16) => Dtype::I16,
        (0, 32) => Dtype::I32,
        (0, 64) => Dtype::I64,
        (1, 8) => Dtype::U8,
        (1, 16) => Dtype::U16,
        (1, 32) => Dtype::U32,
        (1, 64) => Dtype::U64,
        (2, 16) => Dtype::F16,
        (2, 32) => Dtype::F32,
        (2, 64) => Dtype::F64,
        (4, 16) => Dtype::Bf16,
        (6, 8) => Dtype::Bool,
        (10, 8) => Dtype::F8E4M3FN,
        (12, 8) => Dtype::F8E5M2,
        _ => return None,
    })
}

/// What is said about the others.
pub(crate) fn refused(dtype: DataType) -> PyErr {
    let kind = match dtype.code {
        5 => "complex",
        7..=16 => "8-bit float",
        17.. => "sub-byte float",
        _ => "vector or unknown",
    };
    PyTypeError::new_err(format!(
        "unsupported dtype: {kind} (DLPack code {}, {} bits, {} lanes); accepted: {}",
        dtype.code,
        dtype.bits,
        dtype.lanes,
        Dtype::names().join(", ")
    ))
}

/// Whether codes are those of integers of one byte: torch says so of narrower ones too.
pub(crate) fn is_byte_integer(codes: DataType) -> bool {
    matches!((codes.code, codes.bits), (0 | 1, 8))
}
