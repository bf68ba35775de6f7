//! Owns the view of somebody else's memory and the order in which it is walked. Knows nothing of what is counted.

use core::marker::PhantomData;
use core::mem::size_of;
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::element::Element;
use crate::error::Result;
use crate::scan::Options;
use crate::selection::Selection;

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
        let selection = Selection::new(self, mask, options)?;
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
            return Walk::selected(selection);
        }
        if self.strides.is_none() || self.count == 0 {
            return Walk::dense_from(self.data, self.count);
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
        Walk::from_dims(start, dims, self.count)
    }

    /// The walk in index (C) order, for questions such as "which is the first".
    pub fn index_order(&self) -> Walk {
        if let Some(selection) = &self.selection {
            return Walk::selected(selection);
        }
        if self.strides.is_none() || self.count == 0 {
            return Walk::dense_from(self.data, self.count);
        }
        let dims = self
            .shape
            .iter()
            .zip(self.strides())
            .filter(|&(&len, _)| len != 1)
            .map(|(&len, stride)| Run { len: len as u64, stride })
            .collect();
        Walk::from_dims(self.data, dims, self.count)
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

/// One dimension of a walk: how many steps, and how far apart in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of steps.
    pub len: u64,
    /// Distance between neighbours, in elements.
    pub stride: i64,
}

/// An order of visiting all elements: outer dimensions around one inner run.
#[derive(Clone, Debug)]
pub struct Walk {
    start: *const u8,
    outer: Vec<Run>,
    run: Run,
    count: u64,
    selection: Option<Arc<Selection>>,
}

// SAFETY: a walk is an address plus numbers; reading through it is vouched for by the view it came from.
unsafe impl Send for Walk {}
// SAFETY: as above.
unsafe impl Sync for Walk {}

impl Walk {
    fn dense_from(start: *const u8, count: u64) -> Self {
        // A run is at least one long, also when nothing is on it: positions are divided by its length.
        Self { start, outer: Vec::new(), run: Run { len: count.max(1), stride: 1 }, count, selection: None }
    }

    /// The chosen elements only. The stride says that they are not dense.
    fn selected(selection: &Arc<Selection>) -> Self {
        Self {
            start: core::ptr::null(),
            outer: Vec::new(),
            run: Run { len: 1, stride: 0 },
            count: selection.count(),
            selection: Some(Arc::clone(selection)),
        }
    }

    fn from_dims(start: *const u8, dims: Vec<Run>, count: u64) -> Self {
        let mut merged: Vec<Run> = Vec::with_capacity(dims.len());
        for dim in dims {
            match merged.last_mut() {
                Some(outer) if outer.stride == dim.stride.wrapping_mul(dim.len as i64) => {
                    *outer = Run { len: outer.len * dim.len, stride: dim.stride };
                }
                _ => merged.push(dim),
            }
        }
        let run = merged.pop().unwrap_or(Run { len: count, stride: 1 });
        Self { start, outer: merged, run, count, selection: None }
    }

    /// Number of elements on the walk.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first element, where the whole walk is dense memory.
    pub fn as_dense(&self) -> Option<*const u8> {
        (self.outer.is_empty() && self.run.stride == 1).then_some(self.start)
    }

    /// Elements `[from, from + len)` of the walk as dense memory: in place where they are, else gathered into `stage`.
    ///
    /// The returned pointer is readable for `len` elements until `stage` changes; it need not be aligned.
    ///
    /// # Safety
    /// The view this walk came from must still be alive, have element type `E`, and `from + len` must not pass [`Walk::count`].
    #[inline]
    pub unsafe fn dense<E: Element>(&self, from: u64, len: usize, stage: &mut Vec<E>) -> *const E {
        let size = size_of::<E>() as i64;
        if self.outer.is_empty() && self.run.stride == 1 {
            return self.start.wrapping_offset((from as i64 * size) as isize).cast();
        }
        if let Some(selection) = &self.selection {
            // SAFETY: as the caller vouches.
            return unsafe { selection.dense(from, len, stage) };
        }
        let within = from % self.run.len;
        if self.run.stride == 1 && within + len as u64 <= self.run.len {
            return self.row_start(from / self.run.len, size).wrapping_offset((within as i64 * size) as isize).cast();
        }
        stage.clear();
        stage.reserve(len);
        let mut row = from / self.run.len;
        let mut within = within;
        while stage.len() < len {
            let take = (self.run.len - within).min((len - stage.len()) as u64);
            let first: *const E =
                self.row_start(row, size).wrapping_offset((within as i64 * self.run.stride * size) as isize).cast();
            // SAFETY: positions [within, within + take) of this row are elements of the view, which the caller keeps readable, and
            // `reserve(len)` above made room for them.
            unsafe { gather(first, self.run.stride, take as usize, stage) };
            within = 0;
            row += 1;
        }
        stage.as_ptr()
    }

    /// Address of the first element of inner run number `row`.
    fn row_start(&self, mut row: u64, size: i64) -> *const u8 {
        let mut offset = 0_i64;
        for dim in self.outer.iter().rev() {
            offset += (row % dim.len) as i64 * dim.stride;
            row /= dim.len;
        }
        self.start.wrapping_offset((offset * size) as isize)
    }
}

/// Appends `len` elements that stand `stride` apart.
///
/// # Safety
/// The elements must be readable and `stage` must have room for them.
#[inline]
unsafe fn gather<E: Element>(first: *const E, stride: i64, len: usize, stage: &mut Vec<E>) {
    let at = stage.len();
    // SAFETY: the caller made room for `len` more elements, so the end pointer and the writes below stay inside the allocation; the
    // reads are vouched for by the caller and may be misaligned, hence byte copies and unaligned reads.
    unsafe {
        let end = stage.as_mut_ptr().add(at);
        if stride == 1 {
            core::ptr::copy_nonoverlapping(first.cast::<u8>(), end.cast::<u8>(), len * size_of::<E>());
        } else if stride == 0 {
            // A loop of its own, which the compiler turns into wide stores.
            let x = first.read_unaligned();
            for i in 0..len {
                end.add(i).write(x);
            }
        } else {
            for i in 0..len {
                end.add(i).write(first.wrapping_offset(i as isize * stride as isize).read_unaligned());
            }
        }
        stage.set_len(at + len);
    }
}
