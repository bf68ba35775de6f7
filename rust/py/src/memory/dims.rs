//! Owns the shapes that are kept: of one tensor, without an allocation while the rank is small, or of several. Knows nothing of tensors.

use core::ops::Deref;

/// Dimensions kept in place.
const SHORT: usize = 4;

/// The length of each dimension.
#[derive(Clone)]
pub(crate) enum Dims {
    /// How many of the places count.
    Short(u8, [i64; SHORT]),
    Long(Box<[i64]>),
}

impl From<&[i64]> for Dims {
    fn from(dims: &[i64]) -> Self {
        if dims.len() > SHORT {
            return Self::Long(dims.into());
        }
        let mut places = [0; SHORT];
        for (place, &len) in places.iter_mut().zip(dims) {
            *place = len;
        }
        Self::Short(dims.len() as u8, places)
    }
}

impl Deref for Dims {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        match self {
            Self::Short(rank, places) => places.get(..usize::from(*rank)).unwrap_or(places),
            Self::Long(dims) => dims,
        }
    }
}

/// Which tensors a state was made of.
#[derive(Clone)]
pub(crate) enum Shape {
    Nothing,
    One(Dims),
    Several,
}

impl Shape {
    pub(crate) fn merge(&mut self, other: &Self) {
        match (&*self, other) {
            (_, Self::Nothing) => {}
            (Self::Nothing, shape) => *self = shape.clone(),
            _ => *self = Self::Several,
        }
    }
}
