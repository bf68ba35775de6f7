//! Owns the count of units of which only some values are chosen by a mask. Knows nothing of how sums are made.
//!
//! Lines that the mask takes or leaves as a whole, such as the rows of a padded batch, are counted where they are or not read at all. In
//! other lines every value left out becomes NaN, which adds to nothing but one count, and that is taken off again.

use crate::dtype::element::Bool;
use crate::kernel::BLOCK;
use crate::kernel::query::select::count_selected;
use crate::kernel::units::tile::Tile;
use crate::memory::selection::Selection;
use crate::memory::view::TensorView;
use crate::parallel::scan::Options;
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::Lanes;
use crate::simd::level::in_standard_mode;
use crate::simd::level::{Kernel, Level};
use crate::simd::wide::Wide;
use crate::units::Unit;
use crate::units::count::{Room, finish, improve};
use crate::units::plan::Plan;
use crate::with_element;

/// Counts the chosen values of every unit along dimension `dim`.
pub(crate) fn scan(
    view: &TensorView<'_>,
    selection: &Selection,
    dim: usize,
    saturation: Option<(f64, f64)>,
    options: &Options<'_>,
) -> Vec<Unit> {
    let (start, strides) = selection.mask();
    let (plan, mask) = Plan::with_mask(view, dim, start, strides);
    let (masked, level) = (Masked { plan, mask }, options.level);
    with_element!(view.dtype(), E => {
        masked.plan.run(options, |room: &mut Room<E>, first_unit, units, items| {
            // SAFETY: the plans are made from a view and a mask that are alive; units and items are those of the plans.
            unsafe { masked.task(level, room, first_unit, units, items, saturation) }
        })
    })
}

/// A tensor and its mask, cut alike.
struct Masked {
    plan: Plan,
    mask: Plan,
}

/// What was given to the kernels, unit by unit.
struct Given {
    values: Vec<u64>,
    /// Values that stood for ones left out; those of one task are below 2^32.
    blanks: Vec<u32>,
}

impl Given {
    fn new(units: usize) -> Self {
        Self { values: vec![0; units], blanks: vec![0; units] }
    }

    fn clear(&mut self) {
        self.values.fill(0);
        self.blanks.fill(0);
    }
}

impl Masked {
    /// Counts some items of some units.
    ///
    /// # Safety
    /// Tensor and mask must be alive, the tensor's elements of type `E`; units and items must be those of the plans.
    unsafe fn task<E: AsWide>(
        &self,
        level: Level,
        room: &mut Room<E>,
        first_unit: u64,
        units: usize,
        items: core::ops::Range<u64>,
        saturation: Option<(f64, f64)>,
    ) -> Vec<Unit> {
        // The shifts stay zero at first: a unit's first value may be one that is left out, and nothing may depend on those.
        let mut tile = Tile::<E::Wide>::new(units, saturation);
        let mut given = Given::new(units);
        for look in 0..3 {
            tile.clear();
            given.clear();
            for item in items.clone() {
                // SAFETY: as the caller vouches.
                unsafe { self.item(level, room, first_unit, item, &mut given, &mut tile) };
                tile.settle();
            }
            if look == 2 || !in_standard_mode(|| improve(&mut tile, |unit| given.values[unit])) {
                break;
            }
        }
        let mut found = in_standard_mode(|| finish(&tile, |unit| given.values[unit]));
        for (unit, &blanks) in found.iter_mut().zip(&given.blanks) {
            // Saturating: somebody may change the mask meanwhile.
            unit.nonfinite = unit.nonfinite.saturating_sub(u64::from(blanks));
        }
        found
    }

    /// # Safety
    /// As for [`Masked::task`].
    unsafe fn item<E: AsWide>(
        &self,
        level: Level,
        room: &mut Room<E>,
        first_unit: u64,
        item: u64,
        given: &mut Given,
        tile: &mut Tile<E::Wide>,
    ) {
        let (plan, mask) = (&self.plan, &self.mask);
        let p: *const E = plan.address(item, first_unit, size_of::<E>()).cast();
        let bytes = mask.address(item, first_unit, 1);
        let len = plan.stretch_of(item).1 as usize;
        let units = given.values.len();
        let (inner_len, lines) = if plan.columns { (units, len) } else { (len, units) };
        let (inner, across) = if plan.columns { (mask.units, mask.run) } else { (mask.run, mask.units) };
        if inner.stride != 0 {
            // SAFETY: as the caller vouches.
            unsafe { self.blend(level, room, p, bytes, inner_len, lines, given, tile) };
            return;
        }
        // SAFETY: one byte a line, which the caller vouches for.
        let chosen = |line: usize| unsafe { *bytes.wrapping_offset(line as isize * across.stride as isize) != 0 };
        let mut line = 0;
        while line < lines {
            let first = line;
            while line < lines && chosen(line) {
                line += 1;
            }
            if first < line {
                // SAFETY: lines of the item.
                unsafe { plan.lines(level, room, p, inner_len, first..line, tile) };
                self.give(given, inner_len, first..line);
            }
            line += 1;
        }
    }

    /// Notes that lines were given to the kernels.
    fn give(&self, given: &mut Given, inner_len: usize, lines: core::ops::Range<usize>) {
        let (units, values) = if self.plan.columns { (0..inner_len, lines.len()) } else { (lines, inner_len) };
        for given in &mut given.values[units] {
            *given += values as u64;
        }
    }

    /// Counts lines of which the mask takes some values, as many lines at a time as fill a block, or a block of one long line.
    ///
    /// # Safety
    /// As for [`Masked::task`].
    #[allow(clippy::too_many_arguments, reason = "what an item is made of")]
    unsafe fn blend<E: AsWide>(
        &self,
        level: Level,
        room: &mut Room<E>,
        p: *const E,
        bytes: *const u8,
        inner_len: usize,
        lines: usize,
        given: &mut Given,
        tile: &mut Tile<E::Wide>,
    ) {
        let pick = |plan: &Plan| {
            let (inner, across) = if plan.columns { (plan.units, plan.run) } else { (plan.run, plan.units) };
            (inner.stride, across.stride)
        };
        let (inner, across) = pick(&self.plan);
        let (mask_inner, mask_across) = pick(&self.mask);
        let (width, height) = (inner_len.min(BLOCK), (BLOCK / inner_len.max(1)).max(1));
        let mut mask = Room::<Bool>::default();
        let mut values: Vec<E::Wide> = Vec::new();
        let mut line = 0;
        while line < lines {
            let rows = height.min(lines - line);
            let mut from = 0;
            while from < inner_len {
                let n = width.min(inner_len - from);
                let at = |inner: i64, across: i64| (line as i64 * across + from as i64 * inner) as isize;
                let x = p.wrapping_offset(at(inner, across));
                let chosen = bytes.wrapping_offset(at(mask_inner, mask_across)).cast::<Bool>();
                // SAFETY: a part of the item.
                let (x, chosen) = unsafe {
                    (
                        room.lines(level, x, inner, n, across, rows),
                        mask.dense(chosen, mask_inner, n, mask_across, rows).cast::<u8>(),
                    )
                };
                values.resize(n * rows, E::Wide::ZERO);
                level.run(BlendKernel { x, chosen, out: &mut values });
                if self.plan.columns {
                    level.run(BlanksKernel { chosen, blanks: &mut given.blanks, rows });
                } else {
                    for row in 0..rows {
                        // SAFETY: `dense` made as many bytes readable.
                        let found = unsafe { count_selected(level, chosen.add(row * n), n) };
                        given.blanks[line + row] += (n - found as usize) as u32;
                    }
                }
                self.plan.count(level, values.as_ptr(), n as isize, (n, rows), line, tile);
                self.give(given, n, line..line + rows);
                from += n;
            }
            line += rows;
        }
    }
}

/// Values where they are chosen, NaN elsewhere.
struct BlendKernel<'a, W> {
    x: *const W,
    chosen: *const u8,
    out: &'a mut [W],
}

impl<W: Wide> Kernel for BlendKernel<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        for (i, out) in self.out.iter_mut().enumerate() {
            // SAFETY: `Masked::blend` made as many values and bytes readable as there is room for.
            let (x, chosen) = unsafe { (self.x.add(i).read_unaligned(), *self.chosen.add(i)) };
            *out = if chosen != 0 { x } else { W::NAN };
        }
    }
}

/// Rows of a mask that say which values of neighbouring units are left out.
struct BlanksKernel<'a> {
    chosen: *const u8,
    blanks: &'a mut [u32],
    rows: usize,
}

impl Kernel for BlanksKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) {
        let units = self.blanks.len();
        for row in 0..self.rows {
            for (unit, blanks) in self.blanks.iter_mut().enumerate() {
                // SAFETY: `Masked::blend` made as many bytes readable.
                *blanks += u32::from(unsafe { *self.chosen.add(row * units + unit) } == 0);
            }
        }
    }
}
