//! Owns the conversion of a block of elements to wide floats, where they are not such already. Knows nothing of what is counted.

use crate::dtype::element::Element;
use crate::kernel::grid::BLOCK;
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::Lanes;
use crate::simd::level::{Kernel, Level};
use crate::simd::prefetch::{AHEAD, LINE, prefetch};

/// A block of elements as wide floats. One room serves both wide types.
pub struct WideBlock {
    room: Vec<f64>,
    /// Bytes to read ahead.
    ahead: usize,
}

impl WideBlock {
    /// Room for one block; nothing is allocated before it is needed.
    pub fn new() -> Self {
        Self::reading_ahead(AHEAD)
    }

    /// The same, for memory that will be read again before what lies `ahead` bytes further on.
    pub fn reading_ahead(ahead: usize) -> Self {
        Self { room: Vec::new(), ahead }
    }

    /// `len` elements, at most [`BLOCK`], as wide floats: in place where they are, else converted ([`AsWide::wide`]).
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned. The result is readable for as many, until the next call.
    #[inline]
    pub unsafe fn widen<E: AsWide>(&mut self, level: Level, p: *const E, len: usize) -> *const E::Wide {
        // SAFETY: as the caller vouches.
        unsafe { self.convert(level, p, len, E::wide) }
    }

    /// As [`WideBlock::widen`], with [`AsWide::nearest`].
    ///
    /// # Safety
    /// As for [`WideBlock::widen`].
    #[inline]
    pub unsafe fn round<E: AsWide>(&mut self, level: Level, p: *const E, len: usize) -> *const E::Wide {
        // SAFETY: as the caller vouches.
        unsafe { self.convert(level, p, len, E::nearest) }
    }

    /// # Safety
    /// As for [`WideBlock::widen`].
    #[inline]
    unsafe fn convert<E: AsWide>(
        &mut self,
        level: Level,
        p: *const E,
        len: usize,
        one: impl Fn(E) -> E::Wide,
    ) -> *const E::Wide {
        const { assert!(size_of::<E::Wide>() <= size_of::<f64>() && align_of::<E::Wide>() <= align_of::<f64>()) }
        if E::DTYPE == E::Wide::DTYPE {
            return p.cast();
        }
        self.room.resize(BLOCK, 0.0);
        let len = len.min(self.room.len());
        // SAFETY: there is room for as many `f64`, which are at least as big and as aligned, and any bits are a wide float.
        let room = unsafe { core::slice::from_raw_parts_mut(self.room.as_mut_ptr().cast::<E::Wide>(), len) };
        level.run(WidenKernel { p, room, ahead: self.ahead, one });
        self.room.as_ptr().cast()
    }
}

impl Default for WideBlock {
    fn default() -> Self {
        Self::new()
    }
}

/// Elements converted between two hints to the memory.
const PART: usize = 64;

struct WidenKernel<'a, E: AsWide, F> {
    p: *const E,
    room: &'a mut [E::Wide],
    ahead: usize,
    one: F,
}

impl<E: AsWide, F: Fn(E) -> E::Wide> Kernel for WidenKernel<'_, E, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let mut p = self.p;
        for part in self.room.chunks_mut(PART) {
            // What is done with a block leaves the memory idle for so long that the hardware does not read ahead by itself.
            for line in 0..(PART * size_of::<E>()).div_ceil(LINE) {
                prefetch(p.wrapping_byte_add(self.ahead + line * LINE));
            }
            for (i, slot) in part.iter_mut().enumerate() {
                // SAFETY: `WideBlock::convert` cut the room to the readable elements.
                *slot = (self.one)(unsafe { p.add(i).read_unaligned() });
            }
            p = p.wrapping_add(part.len());
        }
    }
}
