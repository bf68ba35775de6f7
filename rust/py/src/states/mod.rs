//! The states as Python classes, and the axes and formats that they are asked for. Knows no function over tensors.

pub(crate) mod axis;
mod dicts;
pub(crate) mod formats;
pub(crate) mod histogram;
pub(crate) mod summary;
pub(crate) mod units;
