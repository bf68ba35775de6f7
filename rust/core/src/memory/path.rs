//! Owns the order in which strided memory is walked. Knows nothing of masks or of what is counted.

use core::mem::size_of;

use crate::dtype::element::Element;

/// One dimension of a walk: how many steps, and how far apart in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of steps.
    pub len: u64,
    /// Distance between neighbours, in elements.
    pub stride: i64,
}

/// An order of visiting all elements of strided memory: outer dimensions around one inner run.
#[derive(Clone, Debug)]
pub struct Path {
    start: *const u8,
    outer: Vec<Run>,
    run: Run,
    count: u64,
}

// SAFETY: a walk is an address plus numbers; reading through it is vouched for by the view it came from.
unsafe impl Send for Path {}
// SAFETY: as above.
unsafe impl Sync for Path {}

impl Path {
    pub(super) fn dense_from(start: *const u8, count: u64) -> Self {
        // A run is at least one long, also when nothing is on it: positions are divided by its length.
        Self { start, outer: Vec::new(), run: Run { len: count.max(1), stride: 1 }, count }
    }

    pub(super) fn from_dims(start: *const u8, dims: Vec<Run>, count: u64) -> Self {
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
        Self { start, outer: merged, run, count }
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
    /// The view this walk came from must still be alive, have element type `E`, and `from + len` must not pass [`Path::count`].
    #[inline]
    pub unsafe fn dense<E: Element>(&self, from: u64, len: usize, stage: &mut Vec<E>) -> *const E {
        let size = size_of::<E>() as i64;
        if self.outer.is_empty() && self.run.stride == 1 {
            return self.start.wrapping_offset((from as i64 * size) as isize).cast();
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
