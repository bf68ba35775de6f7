//! How dense elements are counted unit by unit. Knows nothing of tensors or threads.

pub mod columns;
pub mod fast;
pub mod runs;
pub mod tile;
