//! How dense elements are compared, counted beyond limits, chosen by masks and sifted. Keeps no state.

pub mod beyond;
pub mod bounds;
pub mod select;
pub mod sift;
