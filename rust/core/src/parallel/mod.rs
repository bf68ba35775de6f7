//! Threads: who counts what, and in which order results are merged. Knows nothing of tensors.

pub mod scan;
pub mod team;
