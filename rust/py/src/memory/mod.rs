//! Objects of Python as tensors in host memory. Knows nothing of statistics.

pub(crate) mod buffer;
pub(crate) mod buffers;
mod codes;
pub(crate) mod dims;
mod dlpack;
mod torch;
