//! Owns the count of units: tasks on threads, values made dense where they are not, sums looked at again where digits were lost. Knows
//! nothing of how sums are made.

use crate::chunks::SINGLE_THREAD_BYTES;
use crate::double::scalb;
use crate::element::Element;
use crate::kernel::BLOCK;
use crate::kernel::unit_columns::ColumnsKernel;
use crate::kernel::unit_runs::RunsKernel;
use crate::kernel::unit_tile::Tile;
use crate::kernel::wide::{AsWide, Wide, in_standard_mode};
use crate::kernel::wide_block::WideBlock;
use crate::level::Level;
use crate::scan::{Options, ordered};
use crate::units::Unit;
use crate::units_moments::{Moments, scale_for};
use crate::units_plan::Plan;
use crate::view::TensorView;
use crate::with_element;

/// Counts every unit along dimension `dim`.
pub(crate) fn scan(
    view: &TensorView<'_>,
    dim: usize,
    saturation: Option<(f64, f64)>,
    options: &Options<'_>,
) -> Vec<Unit> {
    with_element!(view.dtype(), E => {
        // SAFETY: the plan is made from the view, whose elements are of type `E`.
        unsafe { Plan::new(view, dim).run::<E>(saturation, options) }
    })
}

impl Plan {
    /// # Safety
    /// The view that the plan came from must be alive and have element type `E`.
    unsafe fn run<E: AsWide>(&self, saturation: Option<(f64, f64)>, options: &Options<'_>) -> Vec<Unit> {
        let mut total = vec![Unit::default(); self.units.len as usize];
        let stretches = self.run.len.div_ceil(self.stretch);
        let items = self.outer_count() * stretches;
        let elements = self.units.len * self.run.len * self.outer_count();
        if elements == 0 {
            return total;
        }
        let tiles = self.units.len.div_ceil(self.tile);
        let tasks_per_tile = items.div_ceil(self.items_per_task);
        let small = elements * size_of::<E>() as u64 <= SINGLE_THREAD_BYTES;
        let options = Options { threads: if small { 1 } else { options.threads }, ..*options };
        let level = options.level;
        let work = |room: &mut Room<E>, task: usize| {
            let (tile, part) = (task as u64 / tasks_per_tile, task as u64 % tasks_per_tile);
            let first_unit = tile * self.tile;
            let units = self.tile.min(self.units.len - first_unit) as usize;
            let items = part * self.items_per_task..items.min((part + 1) * self.items_per_task);
            // SAFETY: as the caller vouches; units and items are those of the plan.
            (first_unit as usize, unsafe { self.task(level, room, first_unit, units, items, saturation) })
        };
        let take = |(first, part): (usize, Vec<Unit>)| {
            for (unit, part) in total.iter_mut().skip(first).zip(&part) {
                unit.merge(part, 0);
            }
        };
        ordered((tiles * tasks_per_tile) as usize, &options, Room::<E>::default, work, take);
        total
    }

    /// Counts some items of some units.
    ///
    /// # Safety
    /// As for [`Plan::run`]; units and items must be those of the plan.
    unsafe fn task<E: AsWide>(
        &self,
        level: Level,
        room: &mut Room<E>,
        first_unit: u64,
        units: usize,
        items: core::ops::Range<u64>,
        saturation: Option<(f64, f64)>,
    ) -> Vec<Unit> {
        let mut tile = Tile::<E::Wide>::new(units, saturation);
        // The first value of each unit is a fair shift: it is a value of the unit, so it is at most sqrt(n) deviations off.
        let first = self.address(items.start, first_unit, size_of::<E>());
        for (unit, shift) in tile.shift.iter_mut().enumerate() {
            let p =
                first.wrapping_offset((unit as i64 * self.units.stride) as isize * size_of::<E>() as isize).cast::<E>();
            // SAFETY: the first value of a unit of the plan.
            let x = in_standard_mode(|| unsafe { p.read_unaligned() }.nearest().to_f64());
            *shift = if x.is_finite() { x } else { 0.0 };
        }
        // A scale is found after the first look, a better shift after the next: a third look always does.
        for look in 0..3 {
            tile.clear();
            for item in items.clone() {
                // SAFETY: as the caller vouches.
                unsafe { self.item(level, room, first_unit, units, item, &mut tile) };
                tile.settle();
            }
            if look == 2 || !in_standard_mode(|| improve(&mut tile, self.values(&items))) {
                break;
            }
        }
        in_standard_mode(|| finish(&tile, self.values(&items)))
    }

    /// # Safety
    /// As for [`Plan::task`].
    unsafe fn item<E: AsWide>(
        &self,
        level: Level,
        room: &mut Room<E>,
        first_unit: u64,
        units: usize,
        item: u64,
        tile: &mut Tile<E::Wide>,
    ) {
        let p: *const E = self.address(item, first_unit, size_of::<E>()).cast();
        let len = self.stretch_of(item).1 as usize;
        let in_place = E::DTYPE == <E::Wide as Element>::DTYPE;
        let (inner, across) = if self.columns { (self.units, self.run) } else { (self.run, self.units) };
        let (inner_len, across_len) = if self.columns { (units, len) } else { (len, units) };
        if in_place && inner.stride == 1 {
            let stride = across.stride as isize;
            self.count(level, p.cast(), stride, (inner_len, across_len), 0, tile);
            return;
        }
        if inner_len > BLOCK {
            // One line at a time, a block at a time; only runs are that long.
            for line in 0..across_len {
                let mut from = 0;
                while from < inner_len {
                    let n = BLOCK.min(inner_len - from);
                    let q = p.wrapping_offset((line as i64 * across.stride + from as i64 * inner.stride) as isize);
                    // SAFETY: a part of the item.
                    let wide = unsafe { room.lines(level, q, inner.stride, n, 0, 1) };
                    self.count(level, wide, n as isize, (n, 1), line, tile);
                    from += n;
                }
            }
            return;
        }
        // As many lines as fill a block, made dense and wide together.
        let lines = (BLOCK / inner_len.max(1)).max(1);
        let mut line = 0;
        while line < across_len {
            let n = lines.min(across_len - line);
            let q = p.wrapping_offset((line as i64 * across.stride) as isize);
            // SAFETY: a part of the item.
            let wide = unsafe { room.lines(level, q, inner.stride, inner_len, across.stride, n) };
            self.count(level, wide, inner_len as isize, (inner_len, n), line, tile);
            line += n;
        }
    }

    /// Counts `across` lines of `inner` values, `stride` apart; `line` is the first unit of the tile when lines are runs.
    fn count<W: Wide>(
        &self,
        level: Level,
        p: *const W,
        stride: isize,
        (inner, across): (usize, usize),
        line: usize,
        tile: &mut Tile<W>,
    ) {
        if self.columns {
            level.run(ColumnsKernel { p, row_stride: stride, rows: across, tile });
        } else {
            level.run(RunsKernel { p, unit_stride: stride, units: line..line + across, len: inner, tile });
        }
    }
}

/// Scratch memory of one thread.
struct Room<E: AsWide> {
    stage: Vec<E>,
    wide: WideBlock,
}

impl<E: AsWide> Default for Room<E> {
    fn default() -> Self {
        Self { stage: Vec::new(), wide: WideBlock::new() }
    }
}

impl<E: AsWide> Room<E> {
    /// Lines of strided elements as dense wide floats, at most [`BLOCK`] in all.
    ///
    /// # Safety
    /// The elements must be readable.
    unsafe fn lines(
        &mut self,
        level: Level,
        p: *const E,
        stride: i64,
        len: usize,
        across: i64,
        lines: usize,
    ) -> *const E::Wide {
        let dense = stride == 1 && (lines == 1 || across == len as i64);
        let source = if dense {
            p
        } else {
            self.stage.clear();
            for line in 0..lines {
                let q = p.wrapping_offset((line as i64 * across) as isize);
                // SAFETY: as the caller vouches.
                self.stage.extend(
                    (0..len).map(|i| unsafe { q.wrapping_offset((i as i64 * stride) as isize).read_unaligned() }),
                );
            }
            self.stage.as_ptr()
        };
        // SAFETY: the elements are readable where they are, or were just copied.
        unsafe { self.wide.round(level, source, len * lines) }
    }
}

/// Chooses scales and better shifts where the sums of a look are bad; `false` when all are good.
fn improve<W: Wide>(tile: &mut Tile<W>, values: u64) -> bool {
    let mut again = false;
    for unit in 0..tile.shift.len() {
        let (min, max) = (tile.min[unit].to_f64(), tile.max[unit].to_f64());
        if min >= max {
            continue;
        }
        let scale = if W::DTYPE == crate::Dtype::F64 { scale_for(min.abs().max(max.abs())) } else { 0 };
        if scale != tile.scale[unit] {
            tile.shift[unit] = scalb(tile.shift[unit], tile.scale[unit] - scale);
            tile.scale[unit] = scale;
            tile.scaled = true;
            again = true;
            continue;
        }
        let finite = values - u64::from(tile.nonfinite[unit]);
        let (moments, bad) = Moments::from_sums(finite, tile.shift[unit], tile.sum[unit], tile.squares[unit], scale);
        if bad && moments.mean.hi.is_finite() {
            tile.shift[unit] = moments.mean.hi;
            again = true;
        }
    }
    again
}

fn finish<W: Wide>(tile: &Tile<W>, values: u64) -> Vec<Unit> {
    (0..tile.shift.len())
        .map(|i| {
            let nonfinite = u64::from(tile.nonfinite[i]);
            let finite = values - nonfinite;
            let zero = u64::from(tile.zero[i]);
            // Adding +0 turns -0 into it: an extreme of zero has no sign.
            let (min, max) = (tile.min[i].to_f64() + 0.0, tile.max[i].to_f64() + 0.0);
            let moments = if min == max {
                let scale = scale_for(min.abs());
                Moments {
                    count: finite,
                    mean: crate::double::Double { hi: scalb(min, -scale), lo: 0.0 },
                    m2: 0.0,
                    scale,
                }
            } else {
                Moments::from_sums(finite, tile.shift[i], tile.sum[i], tile.squares[i], tile.scale[i]).0
            };
            Unit {
                active: finite - zero,
                zero,
                nonfinite,
                low: u64::from(tile.low[i]),
                high: u64::from(tile.high[i]),
                moments,
                min,
                max,
                last_active: 0,
            }
        })
        .collect()
}
