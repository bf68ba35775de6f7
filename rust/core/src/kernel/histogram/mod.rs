//! How dense elements are counted into bins. Knows nothing of tensors, merging or threads.

mod block;
pub mod bytes;
mod fast;
pub mod linear;
pub mod log;
pub mod ranks;
