//! Owns the conversion of a block of elements to wide floats, where they are not such already. Knows nothing of what is counted.

use super::BLOCK;
use super::lanes::Lanes;
use super::prefetch::{AHEAD, LINE, prefetch};
use super::wide::{AsWide, Wide};
use crate::level::{Kernel, Level};

/// A block of elements as wide floats.
pub struct WideBlock<W>(Vec<W>);

impl<W: Wide> WideBlock<W> {
    /// Room for one block; nothing is allocated before it is needed.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// `len` elements, at most [`BLOCK`], as wide floats: in place where they are, else converted ([`AsWide::wide`]).
    ///
    /// # Safety
    /// `p` must be readable for `len` elements; it need not be aligned. The result is readable for as many, until the next call.
    #[inline]
    pub unsafe fn widen<E: AsWide<Wide = W>>(&mut self, level: Level, p: *const E, len: usize) -> *const W {
        // SAFETY: as the caller vouches.
        unsafe { self.convert(level, p, len, E::wide) }
    }

    /// As [`WideBlock::widen`], with [`AsWide::nearest`].
    ///
    /// # Safety
    /// As for [`WideBlock::widen`].
    #[inline]
    pub unsafe fn round<E: AsWide<Wide = W>>(&mut self, level: Level, p: *const E, len: usize) -> *const W {
        // SAFETY: as the caller vouches.
        unsafe { self.convert(level, p, len, E::nearest) }
    }

    /// # Safety
    /// As for [`WideBlock::widen`].
    #[inline]
    unsafe fn convert<E: AsWide<Wide = W>>(
        &mut self,
        level: Level,
        p: *const E,
        len: usize,
        one: impl Fn(E) -> W,
    ) -> *const W {
        if E::DTYPE == W::DTYPE {
            return p.cast();
        }
        self.0.resize(BLOCK, W::ZERO);
        let room: &mut [W] = &mut self.0;
        let len = len.min(room.len());
        level.run(WidenKernel { p, room: &mut room[..len], one });
        self.0.as_ptr()
    }
}

impl<W: Wide> Default for WideBlock<W> {
    fn default() -> Self {
        Self::new()
    }
}

/// Elements converted between two hints to the memory.
const PART: usize = 64;

struct WidenKernel<'a, E: AsWide, F> {
    p: *const E,
    room: &'a mut [E::Wide],
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
                prefetch(p.wrapping_byte_add(AHEAD + line * LINE));
            }
            for (i, slot) in part.iter_mut().enumerate() {
                // SAFETY: `WideBlock::convert` cut the room to the readable elements.
                *slot = (self.one)(unsafe { p.add(i).read_unaligned() });
            }
            p = p.wrapping_add(part.len());
        }
    }
}
