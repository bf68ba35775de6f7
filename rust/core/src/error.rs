//! Owns every error the core can return, one variant and one message each. Knows nothing of Python.

use core::fmt;

/// What can be wrong with a request. The message names the offending value and what is accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// A name that no dtype has, and the names that there are.
    UnknownDtype {
        /// What was asked for.
        name: String,
        /// What is accepted.
        accepted: String,
    },
    /// `moments` is neither 2 nor 4.
    Moments(u32),
    /// Skewness or kurtosis of a summary that kept two moments.
    MomentsNotKept(&'static str),
    /// A question about a format whose values were not counted.
    FormatNotKept(&'static str),
    /// Two states that count different things cannot be merged.
    Incompatible(String),
    /// Memory that is not there.
    Memory(String),
    /// More values than a state can count.
    Overflow(String),
    /// Serialised bytes that are not ours, of another version, or cut short.
    Bytes(String),
    /// An axis that cannot exist.
    Axis(String),
    /// A dimension outside the tensor's rank.
    Dim {
        /// The requested dimension.
        dim: i64,
        /// The tensor's rank.
        ndim: usize,
    },
    /// A mask that is not made of booleans.
    MaskDtype(&'static str),
    /// A mask that cannot be repeated to the shape of its tensor.
    MaskShape {
        /// The mask's shape.
        mask: Vec<i64>,
        /// The tensor's.
        shape: Vec<i64>,
    },
    /// A SIMD level that is unknown or that this machine cannot run.
    Level(String),
    /// Any other argument out of range.
    Argument(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownDtype { name, accepted } => write!(f, "unknown dtype: {name}; accepted: {accepted}"),
            Self::Moments(n) => write!(f, "moments must be 2 or 4, got: {n}"),
            Self::MomentsNotKept(field) => {
                write!(
                    f,
                    "{field} needs the third and fourth moments; ask for them with moments=4 (this state was made with moments=2)"
                )
            }
            Self::FormatNotKept(name) => {
                write!(f, "what {name} would hold was not counted; ask for it with formats=(\"{name}\",)")
            }
            Self::Incompatible(text)
            | Self::Memory(text)
            | Self::Overflow(text)
            | Self::Bytes(text)
            | Self::Axis(text)
            | Self::Level(text)
            | Self::Argument(text) => f.write_str(text),
            Self::MaskDtype(dtype) => {
                write!(f, "where must be a mask of dtype: bool; got: {dtype}; hint: where=mask != 0")
            }
            Self::MaskShape { mask, shape } => {
                write!(f, "where of shape {mask:?} cannot be broadcast to the shape {shape:?} of the tensor")?;
                let missing = shape.len().saturating_sub(mask.len());
                let leading = mask.iter().zip(shape).all(|(&m, &n)| m == 1 || m == n);
                // A mask of the leading dimensions, such as the padding of [B, T] for [B, T, C].
                if missing > 0 && leading {
                    write!(f, "; hint: where=mask[...{}]", ", None".repeat(missing))?;
                }
                Ok(())
            }
            Self::Dim { dim, ndim: 0 } => write!(f, "a 0-d tensor has no dim to choose, got dim: {dim}"),
            Self::Dim { dim, ndim } => {
                write!(f, "dim must be in [-{ndim}, {}] for a tensor of rank {ndim}, got: {dim}", ndim - 1)
            }
        }
    }
}

impl std::error::Error for Error {}

/// The result type of this crate.
pub type Result<T> = core::result::Result<T, Error>;
