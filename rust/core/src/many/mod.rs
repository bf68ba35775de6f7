//! Many tensors, or several states of one, in a single call. Knows nothing of Python.

pub mod changes;
pub mod snapshot;
pub mod summary_and_histogram;
