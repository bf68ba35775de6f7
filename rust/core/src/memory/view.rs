//! Owns the view of somebody else's memory and the order in which it is walked. Knows nothing of what is counted.

use core::marker::PhantomData;
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::dtype::element::Element;
use crate::error::{Error, Result};
use crate::memory::path::{Path, Run};
use crate::memory::selection::Selection;
use crate::parallel::scan::Options;

/// A borrowed, strided tensor. Strides count elements, may be zero or negative, and memory need not be aligned.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    data: *const u8,
    dtype: Dtype,
    shape: &'a [i64],
    strides: Option<&'a [i64]>,
    count: u64,
    selection: Option<Arc<Selection>>,
    memory: PhantomData<&'a [u8]>,
}

// SAFETY: the view only reads; whoever made it vouched that the memory outlives it and is readable from any thread.
unsafe impl Send for TensorView<'_> {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for TensorView<'_> {}

impl<'a> TensorView<'a> {
    /// Describes memory that somebody else owns. `strides` of `None` means dense in C order.
    ///
    /// # Safety
    /// Every element reachable through `shape` and `strides` from `data` must stay readable for `'a`. Concurrent writes by others may
    /// give a mix of old and new values, never more than that.
    pub unsafe fn new(data: *const u8, dtype: Dtype, shape: &'a [i64], strides: Option<&'a [i64]>) -> Self {
        let count = if shape.contains(&0) { 0 } else { shape.iter().map(|&n| n as u64).product() };
        Self { data, dtype, shape, strides, count, selection: None, memory: PhantomData }
    }

    /// A dense one-dimensional view of a slice.
    ///
    /// # Panics
    /// `shape` does not hold the length of the slice.
    pub fn from_slice<E: Element>(values: &'a [E], shape: &'a [i64; 1]) -> Self {
        assert_eq!(shape[0], values.len() as i64, "shape must be the length of the slice");
        // SAFETY: a slice is readable for its lifetime.
        unsafe { Self::new(values.as_ptr().cast(), E::DTYPE, shape, None) }
    }

    /// The same tensor, of which only those elements count for which the mask is true: walks skip the others and are in index order, as
    /// if the chosen elements were a dense tensor of one dimension.
    pub fn select(&self, mask: &TensorView<'a>, options: &Options<'_>) -> Result<Self> {
        if mask.dtype != Dtype::Bool {
            return Err(Error::MaskDtype(mask.dtype.name()));
        }
        let mask_strides = broadcast(mask, self.shape)?;
        // SAFETY: broadcasting reaches no other bytes than the mask's.
        let repeated = unsafe { TensorView::new(mask.data, Dtype::Bool, self.shape, Some(&mask_strides)) };
        let mask_path = repeated.index_path();
        let selection = Selection::new(self.index_path(), mask_path, mask.data, mask_strides, options);
        Ok(Self { count: selection.count(), selection: Some(Arc::new(selection)), ..self.clone() })
    }

    /// Which elements count, where not all do.
    pub(crate) fn selection(&self) -> Option<&Selection> {
        self.selection.as_deref()
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Length of each dimension.
    pub fn shape(&self) -> &'a [i64] {
        self.shape
    }

    /// Number of elements that count, repeats of stride-0 dimensions included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Address of the element with all indices zero.
    pub fn data(&self) -> *const u8 {
        self.data
    }

    /// The stride of each dimension in elements.
    pub fn strides(&self) -> Vec<i64> {
        match self.strides {
            Some(strides) => strides.to_vec(),
            None => dense_strides(self.shape),
        }
    }

    /// Whether shape and strides are these.
    pub(crate) fn has_layout(&self, shape: &[i64], strides: &[i64]) -> bool {
        let dense = || {
            let mut expected = 1;
            shape.iter().zip(strides).rev().all(|(&len, &stride)| {
                let fits = stride == expected;
                expected *= len.max(1);
                fits
            })
        };
        self.shape == shape && self.strides.map_or_else(dense, |mine| mine == strides)
    }

    /// The walk in memory order, for statistics that do not depend on order: fewest and longest runs.
    pub fn memory_order(&self) -> Walk {
        if let Some(selection) = &self.selection {
            return Walk::Selected(Arc::clone(selection));
        }
        if self.strides.is_none() || self.count == 0 {
            return Walk::Plain(Path::dense_from(self.data, self.count));
        }
        let size = self.dtype.size() as isize;
        let mut start = self.data;
        let mut dims: Vec<Run> = Vec::with_capacity(self.shape.len());
        for (&len, stride) in self.shape.iter().zip(self.strides()) {
            if len == 1 {
                continue;
            }
            if stride < 0 {
                start = start.wrapping_offset((len - 1) as isize * stride as isize * size);
            }
            dims.push(Run { len: len as u64, stride: stride.abs() });
        }
        // Repeats (stride 0) go outermost so that the inner runs stay long; the rest by falling stride.
        dims.sort_by_key(|d| core::cmp::Reverse(if d.stride == 0 { i64::MAX } else { d.stride }));
        Walk::Plain(Path::from_dims(start, dims, self.count))
    }

    /// The walk in index (C) order, for questions such as "which is the first".
    pub fn index_order(&self) -> Walk {
        match &self.selection {
            Some(selection) => Walk::Selected(Arc::clone(selection)),
            None => Walk::Plain(self.index_path()),
        }
    }

    /// All elements in index order, chosen or not.
    fn index_path(&self) -> Path {
        let count = if self.selection.is_some() { self.shape.iter().map(|&n| n as u64).product() } else { self.count };
        if self.strides.is_none() || count == 0 {
            return Path::dense_from(self.data, count);
        }
        let dims = self
            .shape
            .iter()
            .zip(self.strides())
            .filter(|&(&len, _)| len != 1)
            .map(|(&len, stride)| Run { len: len as u64, stride })
            .collect();
        Path::from_dims(self.data, dims, count)
    }
}

/// An order of visiting the elements that count.
#[derive(Clone, Debug)]
pub enum Walk {
    /// All of them.
    Plain(Path),
    /// Those that a mask chooses, in index order.
    Selected(Arc<Selection>),
}

impl Walk {
    /// Number of elements on the walk.
    pub fn count(&self) -> u64 {
        match self {
            Self::Plain(path) => path.count(),
            Self::Selected(selection) => selection.count(),
        }
    }

    /// The first element, where the whole walk is dense memory.
    pub fn as_dense(&self) -> Option<*const u8> {
        match self {
            Self::Plain(path) => path.as_dense(),
            Self::Selected(_) => None,
        }
    }

    /// Elements `[from, from + len)` of the walk as dense memory: in place where they are, else gathered into `stage`.
    ///
    /// The returned pointer is readable for `len` elements until `stage` changes; it need not be aligned.
    ///
    /// # Safety
    /// The view this walk came from must still be alive, have element type `E`, and `from + len` must not pass [`Walk::count`].
    #[inline]
    pub unsafe fn dense<E: Element>(&self, from: u64, len: usize, stage: &mut Vec<E>) -> *const E {
        // SAFETY: as the caller vouches.
        unsafe {
            match self {
                Self::Plain(path) => path.dense(from, len, stage),
                Self::Selected(selection) => selection.dense(from, len, stage),
            }
        }
    }
}

/// C-order strides of a dense tensor.
pub fn dense_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}

/// The strides of a mask repeated to a shape: aligned at the last dimension, 0 along those it lacks or has once.
fn broadcast(mask: &TensorView<'_>, shape: &[i64]) -> Result<Vec<i64>> {
    let refused = || Error::MaskShape { mask: mask.shape().to_vec(), shape: shape.to_vec() };
    let missing = shape.len().checked_sub(mask.shape().len()).ok_or_else(refused)?;
    let mut strides = vec![0; missing];
    for ((&len, stride), &wanted) in mask.shape().iter().zip(mask.strides()).zip(&shape[missing..]) {
        strides.push(match len {
            1 => 0,
            _ if len == wanted => stride,
            _ => return Err(refused()),
        });
    }
    Ok(strides)
}
