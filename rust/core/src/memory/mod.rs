//! Where elements lie: strided views, masks over them, and the chunks they are walked in. Computes nothing.

pub mod chunks;
pub mod path;
pub mod selection;
pub mod view;
