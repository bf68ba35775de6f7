//! Owns the C structures of DLPack and what keeps a producer's memory alive. The only file that reads foreign structs.
//! Knows nothing of numpy, torch or statistics.
//!
//! Written from the specification (dmlc/dlpack, `dlpack.h` 1.1 and the exchange API of 1.3). A capsule is consumed by renaming it; its
//! deleter runs exactly once, when the [`Managed`] that took it over is dropped, on whatever path.

use core::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods};

const LEGACY: &CStr = c"dltensor";
const USED_LEGACY: &CStr = c"used_dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const USED_VERSIONED: &CStr = c"used_dltensor_versioned";
const EXCHANGE: &CStr = c"dlpack_exchange_api";

/// The major version whose layout this file describes.
const MAJOR: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) kind: i32,
    pub(crate) index: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DataType {
    pub(crate) code: u8,
    pub(crate) bits: u8,
    pub(crate) lanes: u16,
}

/// A borrowed description of a tensor; all pointers belong to the producer.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tensor {
    pub(crate) data: *mut c_void,
    pub(crate) device: Device,
    pub(crate) ndim: i32,
    pub(crate) dtype: DataType,
    pub(crate) shape: *const i64,
    pub(crate) strides: *const i64,
    pub(crate) byte_offset: u64,
}

#[repr(C)]
struct LegacyTensor {
    tensor: Tensor,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Version {
    major: u32,
    minor: u32,
}

#[repr(C)]
struct VersionedTensor {
    version: Version,
    manager: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Self)>,
    flags: u64,
    tensor: Tensor,
}

/// A tensor whose producer keeps the memory alive until this is dropped.
pub(crate) enum Managed {
    Legacy(LegacyOwner),
    Versioned(VersionedOwner),
}

pub(crate) struct LegacyOwner(*mut LegacyTensor);
pub(crate) struct VersionedOwner(*mut VersionedTensor);

impl Drop for LegacyOwner {
    fn drop(&mut self) {
        // SAFETY: the pointer came out of a capsule that was marked as used by us, so we own it and call its deleter once.
        unsafe {
            if let Some(delete) = (*self.0).deleter {
                delete(self.0);
            }
        }
    }
}

impl Drop for VersionedOwner {
    fn drop(&mut self) {
        // SAFETY: as for the legacy form; the deleter's place is the same in every version.
        unsafe {
            if let Some(delete) = (*self.0).deleter {
                delete(self.0);
            }
        }
    }
}

impl Managed {
    /// Takes over the tensor in a capsule that `__dlpack__` returned.
    pub(crate) fn from_capsule(capsule: &Bound<'_, PyAny>) -> PyResult<Self> {
        let capsule = capsule.cast::<PyCapsule>().map_err(|_| {
            PyTypeError::new_err(format!("__dlpack__ must return a capsule, got: {}", type_name(capsule)))
        })?;
        if capsule.is_valid_checked(Some(VERSIONED)) {
            let pointer = capsule.pointer_checked(Some(VERSIONED))?.cast::<VersionedTensor>();
            rename(capsule, USED_VERSIONED)?;
            return Self::versioned(pointer.as_ptr());
        }
        if capsule.is_valid_checked(Some(LEGACY)) {
            let pointer = capsule.pointer_checked(Some(LEGACY))?.cast::<LegacyTensor>();
            rename(capsule, USED_LEGACY)?;
            return Ok(Self::Legacy(LegacyOwner(pointer.as_ptr())));
        }
        Err(PyBufferError::new_err(
            "DLPack capsule was already consumed or has another name; expected a fresh `dltensor`",
        ))
    }

    fn versioned(pointer: *mut VersionedTensor) -> PyResult<Self> {
        let owner = VersionedOwner(pointer);
        // SAFETY: the version stands first in every version of the struct.
        let version = unsafe { (*pointer).version };
        if version.major != MAJOR {
            return Err(PyBufferError::new_err(format!(
                "DLPack version must be {MAJOR}.x, got: {}.{}",
                version.major, version.minor
            )));
        }
        Ok(Self::Versioned(owner))
    }

    /// The tensor's description, valid while `self` lives.
    pub(crate) fn tensor(&self) -> Tensor {
        // SAFETY: both owners hold a live pointer to a struct whose layout was checked by name and version.
        unsafe {
            match self {
                Self::Legacy(owner) => (*owner.0).tensor,
                Self::Versioned(owner) => (*owner.0).tensor,
            }
        }
    }
}

/// Marks a capsule as consumed, so that its own destructor leaves the tensor to us.
fn rename(capsule: &Bound<'_, PyCapsule>, name: &'static CStr) -> PyResult<()> {
    // SAFETY: the capsule is alive and the name is static, as the C API asks.
    let failed = unsafe { pyo3::ffi::PyCapsule_SetName(capsule.as_ptr(), name.as_ptr()) };
    if failed == 0 { Ok(()) } else { Err(PyErr::fetch(capsule.py())) }
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "unknown".to_owned(), |name| name.to_string())
}

/// The C functions that a tensor class offers on its type, for exports without a Python call.
#[repr(C)]
pub(crate) struct ExchangeApi {
    version: Version,
    previous: *mut c_void,
    allocate: *const c_void,
    managed_from_object: Option<unsafe extern "C" fn(*mut c_void, *mut *mut VersionedTensor) -> c_int>,
    managed_to_object: *const c_void,
    borrow_from_object: Option<unsafe extern "C" fn(*mut c_void, *mut Tensor) -> c_int>,
    current_stream: *const c_void,
}

/// A reference to a class's exchange functions, which live as long as the process.
#[derive(Clone, Copy)]
pub(crate) struct Exchange(&'static ExchangeApi);

// SAFETY: the table is constant and its functions may be called from any thread that holds the GIL, which both methods require.
unsafe impl Send for Exchange {}
// SAFETY: as above.
unsafe impl Sync for Exchange {}

impl Exchange {
    /// The functions of a class, if it has them in a version we know.
    pub(crate) fn of_type(class: &Bound<'_, PyAny>) -> Option<Self> {
        let capsule = class.getattr("__dlpack_c_exchange_api__").ok()?;
        let capsule = capsule.cast::<PyCapsule>().ok()?;
        let pointer = capsule.pointer_checked(Some(EXCHANGE)).ok()?.cast::<ExchangeApi>();
        // SAFETY: the specification gives the struct the lifetime of the process; the version stands first in every version.
        let api = unsafe { pointer.as_ref() };
        (api.version.major == MAJOR && api.borrow_from_object.is_some()).then_some(Self(api))
    }

    /// A description borrowed from the object: valid only until Python code can run again.
    pub(crate) fn borrow(self, object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
        let mut tensor = core::mem::MaybeUninit::<Tensor>::uninit();
        let borrow =
            self.0.borrow_from_object.ok_or_else(|| PyBufferError::new_err("exchange API offers no borrowing"))?;
        // SAFETY: the object's class is the one that offered the functions; on success the struct is filled in.
        unsafe {
            if borrow(object.as_ptr().cast(), tensor.as_mut_ptr()) == 0 {
                Ok(tensor.assume_init())
            } else {
                Err(PyErr::fetch(object.py()))
            }
        }
    }

    /// The tensor with a share in its memory.
    pub(crate) fn manage(self, object: &Bound<'_, PyAny>) -> PyResult<Managed> {
        let mut pointer = core::ptr::null_mut();
        let manage =
            self.0.managed_from_object.ok_or_else(|| PyBufferError::new_err("exchange API offers no export"))?;
        // SAFETY: as for `borrow`; on success the pointer is ours to delete.
        if unsafe { manage(object.as_ptr().cast(), &raw mut pointer) } == 0 {
            Managed::versioned(pointer)
        } else {
            Err(PyErr::fetch(object.py()))
        }
    }
}
