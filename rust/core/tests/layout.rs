//! Owns the claim that any strided memory is read in place: every element once, none beside it, whatever strides and alignment are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Case, Look, Memory, Random, cases};
use common::oracle::Oracle;
use common::promises::check;
use common::{at_all_levels, options, portable, properties};
use proptest::prelude::*;
use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Level, Summary, TensorView, with_element};

/// A strided window into memory that is no larger than it has to be.
#[derive(Debug)]
struct Layout {
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl Layout {
    /// Up to four dimensions, strides of every sign; `elements` bounds how many there are.
    fn random(random: &mut Random, elements: i64) -> Self {
        let (mut shape, mut strides) = (Vec::new(), Vec::new());
        let mut left = elements;
        for _ in 0..random.below(5) {
            let longest = if random.below(3) == 0 { left } else { left.min(7) };
            let len = random.below(longest as u64 + 1) as i64;
            left /= len.max(1);
            shape.push(len);
            strides.push(random.below(11) as i64 - 5);
        }
        if random.below(2) == 0 {
            // Dense in some order of the dimensions, in either direction: transposed, reversed, channels last.
            let mut order: Vec<usize> = (0..shape.len()).collect();
            for i in (1..order.len()).rev() {
                order.swap(i, random.below(i as u64 + 1) as usize);
            }
            let mut stride = 1 + random.below(2) as i64;
            for dim in order {
                strides[dim] = if random.below(3) == 0 { -stride } else { stride };
                stride *= shape[dim].max(1);
            }
        }
        Self { shape, strides }
    }

    /// Offset of every element from the one with all indices zero, in C order: nested counting and nothing else.
    fn offsets(&self) -> Vec<i64> {
        let mut offsets = vec![0];
        for (&len, &stride) in self.shape.iter().zip(&self.strides) {
            offsets = offsets.iter().flat_map(|&at| (0..len).map(move |i| at + i * stride)).collect();
        }
        offsets
    }
}

/// Memory of a layout, and the patterns a view of it must find, in C order.
struct Strided {
    layout: Layout,
    memory: Memory,
    first: i64,
    bits: Vec<u64>,
    dtype: Dtype,
}

impl Strided {
    fn new(case: Case, layout: Layout, misaligned: usize) -> Self {
        let offsets = layout.offsets();
        let lowest = offsets.iter().copied().min().unwrap_or(0);
        let highest = offsets.iter().copied().max().unwrap_or(-1);
        let all = Case { len: (highest - lowest + 1) as usize, ..case }.bits();
        let bits = offsets.iter().map(|at| all[(at - lowest) as usize]).collect();
        Self { memory: Memory::new(&all, case.dtype, misaligned), layout, first: -lowest, bits, dtype: case.dtype }
    }

    fn view(&self) -> TensorView<'_> {
        let start = self.memory.address().wrapping_offset(self.first as isize * self.dtype.size() as isize);
        // SAFETY: the memory reaches from the lowest to the highest offset of the layout, and lives as long as `self`.
        unsafe { TensorView::new(start, self.dtype, &self.layout.shape, Some(&self.layout.strides)) }
    }
}

proptest! {
    #![proptest_config(properties(800))]

    #[test]
    fn every_layout_keeps_every_promise(case in cases(1), seed in any::<u64>(), elements in 1_i64..6000, misaligned in 0_usize..9) {
        let layout = Layout::random(&mut Random(seed), elements);
        let strided = Strided::new(case, layout, misaligned);
        let summary = at_all_levels(&strided.view(), Moments::Four).map_err(TestCaseError::fail)?;
        check(&summary, &Oracle::of(&strided.bits, case.dtype))
            .map_err(|message| TestCaseError::fail(format!("{:?}\n{message}", strided.layout)))?;
    }

    #[test]
    fn the_walk_in_index_order_is_c_order(case in cases(1), seed in any::<u64>(), elements in 1_i64..600, cut in 0.0..1.0, part in 0.0..1.0) {
        let layout = Layout::random(&mut Random(seed), elements);
        let strided = Strided::new(Case { look: Look::Random, ..case }, layout, 0);
        let walk = strided.view().index_order();
        let count = strided.bits.len();
        prop_assert_eq!(walk.count() as usize, count);
        let from = (cut * count as f64) as usize;
        let len = (part * (count - from) as f64) as usize;
        let found: Vec<u64> = with_element!(case.dtype, E => {
            let mut stage = Vec::new();
            // SAFETY: the memory is alive, of this element type, and the range ends inside.
            let start = unsafe { walk.dense::<E>(from as u64, len, &mut stage) };
            (0..len)
                .map(|i| {
                    let mut pattern = [0_u8; 8];
                    let size = size_of::<E>();
                    // SAFETY: `dense` vouches for `len` elements.
                    unsafe { core::ptr::copy_nonoverlapping(start.add(i).cast::<u8>(), pattern.as_mut_ptr(), size) };
                    u64::from_le_bytes(pattern)
                })
                .collect()
        });
        prop_assert_eq!(&found[..], &strided.bits[from..from + len], "{:?}", strided.layout);
    }

    #[test]
    fn alignment_never_shows(case in cases(9000), misaligned in 1_usize..64) {
        let bits = case.bits();
        let aligned = portable(&Memory::new(&bits, case.dtype, 0).view(), Moments::Four);
        let moved = at_all_levels(&Memory::new(&bits, case.dtype, misaligned).view(), Moments::Four).map_err(TestCaseError::fail)?;
        prop_assert_eq!(moved.to_bytes(), aligned.to_bytes());
    }
}

#[test]
fn dense_memory_gives_the_same_bits_in_any_order_of_dimensions() {
    let case = Case { dtype: Dtype::F32, look: Look::Random, len: 24 * 35 * 90, seed: 3 };
    let whole = Memory::new(&case.bits(), case.dtype, 0);
    let expected = portable(&whole.view(), Moments::Four).to_bytes();
    for (shape, strides) in [
        ([24, 35, 90], [35 * 90, 90, 1]),
        ([90, 35, 24], [1, 90, 35 * 90]),
        ([24, 90, 35], [35 * 90, 1, 90]),
        ([35, 24, 90], [90, 35 * 90, 1]),
    ] {
        // SAFETY: these are permutations of a dense tensor that is alive.
        let view = unsafe { TensorView::new(whole.address(), case.dtype, &shape, Some(&strides)) };
        assert_eq!(portable(&view, Moments::Four).to_bytes(), expected, "{shape:?} {strides:?}");
    }
}

#[test]
fn more_than_two_to_the_31_elements_are_counted() {
    // One row of 65,536 bytes, repeated 32,769 times by a stride of 0.
    let row: Vec<u64> = (0..65_536).map(|i| i % 251).collect();
    let memory = Memory::new(&row, Dtype::U8, 0);
    let shape = [32_769, 65_536];
    // SAFETY: the second dimension is the row, the first one repeats it.
    let view = unsafe { TensorView::new(memory.address(), Dtype::U8, &shape, Some(&[0, 1])) };
    let summary = Summary::of(&view, Moments::Two, &options(Level::best(), 2));
    assert_eq!(summary.stats.counts.total(), 32_769 * 65_536);
    assert_eq!(summary.stats.int_sum, 32_769 * i128::from(row.iter().sum::<u64>()));
    assert_eq!(summary.stats.counts.zero, 32_769 * row.iter().filter(|&&x| x == 0).count() as u64);
}

#[test]
fn empty_and_zero_dimensional_views_are_ordinary() {
    let value = 2.5_f32;
    // SAFETY: one element is readable.
    let scalar = unsafe { TensorView::new((&raw const value).cast(), Dtype::F32, &[], Some(&[])) };
    let summary = portable(&scalar, Moments::Four);
    assert_eq!((summary.stats.counts.total(), summary.mean(), summary.var(0.0)), (1, 2.5, 0.0));
    for shape in [&[0][..], &[3, 0], &[0, 5], &[i64::MAX, i64::MAX, 0]] {
        // SAFETY: there is no element to read, so that no address is needed.
        let empty = unsafe { TensorView::new(core::ptr::null(), Dtype::F64, shape, None) };
        assert_eq!(portable(&empty, Moments::Four).stats.counts.total(), 0, "{shape:?}");
    }
}
