//! The functions over tensors that are no method of one state, and what the watcher keeps of many.

pub(crate) mod device;
mod elsewhere;
pub(crate) mod fused;
pub(crate) mod many;
pub(crate) mod quantile;
pub(crate) mod range;
mod rows;
pub(crate) mod slot;
pub(crate) mod update;
