//! Owns the count of units: tasks on threads, values made dense where they are not, sums looked at again where digits were lost. Knows
//! nothing of how sums are made.

use crate::dtype::element::Element;
use crate::kernel::BLOCK;
use crate::kernel::units::columns::ColumnsKernel;
use crate::kernel::units::fast::{FastColumnsKernel, FastRunsKernel};
use crate::kernel::units::runs::RunsKernel;
use crate::kernel::units::tile::Tile;
use crate::kernel::wide_block::WideBlock;
use crate::number::double::scalb;
use crate::parallel::scan::{Options, ordered};
use crate::simd::as_wide::AsWide;
use crate::simd::lanes::{LANES, WideFloat};
use crate::simd::level::Level;
use crate::simd::level::in_standard_mode;
use crate::simd::wide::Wide;
use crate::state::unit_moments::{Moments, scale_for};
use crate::units::plan::Plan;
use crate::units::{Unit, merge_all};

impl Plan {
    /// Runs `count` for every tile of units (its first unit, how many) and every group of items, and puts the results together.
    pub(crate) fn run<E: AsWide>(
        &self,
        options: &Options<'_>,
        count: impl Fn(&mut Room<E>, u64, usize, core::ops::Range<u64>) -> Vec<Unit> + Sync,
    ) -> Vec<Unit> {
        let stretches = self.run.len.div_ceil(self.stretch);
        let items = self.outer_count() * stretches;
        let elements = self.units.len * self.run.len * self.outer_count();
        if elements == 0 {
            return vec![Unit::default(); self.units.len as usize];
        }
        let mut total = Vec::new();
        let tiles = self.units.len.div_ceil(self.tile);
        let tasks_per_tile = items.div_ceil(self.items_per_task);
        let options = options.for_bytes(elements * size_of::<E>() as u64);
        let work = |room: &mut Room<E>, task: usize| {
            let (tile, part) = (task as u64 / tasks_per_tile, task as u64 % tasks_per_tile);
            let first_unit = tile * self.tile;
            let units = self.tile.min(self.units.len - first_unit) as usize;
            let items = part * self.items_per_task..items.min((part + 1) * self.items_per_task);
            (first_unit as usize, count(room, first_unit, units, items))
        };
        let take = |(first, part): (usize, Vec<Unit>)| {
            // The first part of a tile follows the last one of the tile before.
            if first == total.len() {
                if total.is_empty() && tiles == 1 { total = part } else { total.extend_from_slice(&part) }
            } else {
                merge_all(&mut total[first..], &part, 0);
            }
        };
        ordered((tiles * tasks_per_tile) as usize, &options, Room::<E>::default, work, take);
        total
    }

    /// Counts some items of some units.
    ///
    /// # Safety
    /// The view that the plan came from must be alive and have element type `E`; units and items must be those of the plan.
    pub(super) unsafe fn task<E: AsWide>(
        &self,
        level: Level,
        room: &mut Room<E>,
        first_unit: u64,
        units: usize,
        items: core::ops::Range<u64>,
        saturation: Option<(f64, f64)>,
    ) -> Vec<Unit> {
        let mut tile = Tile::<E::Wide>::new(units, saturation);
        // A strip of the fast kernel is sixteen columns wide.
        tile.fast = !self.columns || units >= LANES;
        if !tile.fast {
            // SAFETY: as the caller vouches.
            return unsafe { self.careful_task(level, room, first_unit, units, items, saturation) };
        }
        for item in items.clone() {
            // SAFETY: as the caller vouches.
            unsafe { self.item(level, room, first_unit, units, item, &mut tile) };
            tile.settle();
        }
        let values = self.values(&items);
        let (mut found, again) = in_standard_mode(|| (finish(&tile, |_| values), again(&tile, values)));
        let width = if self.columns { LANES } else { 1 };
        let mut unit = 0;
        while let Some(next) = again[unit..].iter().position(|&again| again) {
            // As many units as are counted together, and all neighbours that need it too.
            let start = (unit + next) / width * width;
            let mut end = start;
            while end < units && again[end..units.min(end + width)].contains(&true) {
                end = units.min(end + width);
            }
            let first = first_unit + start as u64;
            // SAFETY: some of the units.
            let better = unsafe { self.careful_task(level, room, first, end - start, items.clone(), saturation) };
            found[start..end].copy_from_slice(&better);
            unit = end;
        }
        found
    }

    /// As [`Plan::task`], whatever the values are.
    ///
    /// # Safety
    /// As for [`Plan::task`].
    unsafe fn careful_task<E: AsWide>(
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
        let values = self.values(&items);
        // A scale is found after the first look, a better shift after the next: a third look always does.
        for look in 0..3 {
            tile.clear();
            for item in items.clone() {
                // SAFETY: as the caller vouches.
                unsafe { self.item(level, room, first_unit, units, item, &mut tile) };
                tile.settle();
            }
            if look == 2 || !in_standard_mode(|| improve(&mut tile, |_| values)) {
                break;
            }
        }
        in_standard_mode(|| finish(&tile, |_| values))
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
        let (inner_len, lines) = if self.columns { (units, len) } else { (len, units) };
        // SAFETY: as the caller vouches.
        unsafe { self.lines(level, room, p, inner_len, 0..lines, tile) };
    }

    /// Counts some lines of an item that starts at `p`: rows of units, or runs of values of one unit each.
    ///
    /// # Safety
    /// As for [`Plan::task`].
    pub(crate) unsafe fn lines<E: AsWide>(
        &self,
        level: Level,
        room: &mut Room<E>,
        p: *const E,
        inner_len: usize,
        lines: core::ops::Range<usize>,
        tile: &mut Tile<E::Wide>,
    ) {
        let in_place = E::DTYPE == <E::Wide as Element>::DTYPE;
        let (inner, across) = if self.columns { (self.units, self.run) } else { (self.run, self.units) };
        if in_place && inner.stride == 1 {
            let first = p.wrapping_offset((lines.start as i64 * across.stride) as isize);
            self.count(level, first.cast(), across.stride as isize, (inner_len, lines.len()), lines.start, tile);
            return;
        }
        if inner_len > BLOCK {
            // One line at a time, a block at a time; only runs are that long.
            for line in lines {
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
        let most = (BLOCK / inner_len.max(1)).max(1);
        let mut line = lines.start;
        while line < lines.end {
            let n = most.min(lines.end - line);
            let q = p.wrapping_offset((line as i64 * across.stride) as isize);
            // SAFETY: a part of the item.
            let wide = unsafe { room.lines(level, q, inner.stride, inner_len, across.stride, n) };
            self.count(level, wide, inner_len as isize, (inner_len, n), line, tile);
            line += n;
        }
    }

    /// Counts `across` lines of `inner` values, `stride` apart; `line` is the first unit of the tile when lines are runs.
    pub(crate) fn count<W: Wide + WideFloat>(
        &self,
        level: Level,
        p: *const W,
        stride: isize,
        (inner, across): (usize, usize),
        line: usize,
        tile: &mut Tile<W>,
    ) {
        let units = line..line + across;
        match (self.columns, tile.fast) {
            (true, true) => level.run(FastColumnsKernel { p, row_stride: stride, rows: across, tile }),
            (true, false) => level.run(ColumnsKernel { p, row_stride: stride, rows: across, tile }),
            (false, true) => level.run(FastRunsKernel { p, unit_stride: stride, units, len: inner, tile }),
            (false, false) => level.run(RunsKernel { p, unit_stride: stride, units, len: inner, tile }),
        }
    }
}

/// Scratch memory of one thread.
pub(crate) struct Room<E: AsWide> {
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
    pub(crate) unsafe fn lines(
        &mut self,
        level: Level,
        p: *const E,
        stride: i64,
        len: usize,
        across: i64,
        lines: usize,
    ) -> *const E::Wide {
        // SAFETY: as the caller vouches.
        let source = unsafe { self.dense(p, stride, len, across, lines) };
        // SAFETY: the elements are readable where they are, or were just copied.
        unsafe { self.wide.round(level, source, len * lines) }
    }

    /// Lines of strided elements as dense ones, in place where they are.
    ///
    /// # Safety
    /// The elements must be readable.
    pub(crate) unsafe fn dense(&mut self, p: *const E, stride: i64, len: usize, across: i64, lines: usize) -> *const E {
        if stride == 1 && (lines == 1 || across == len as i64) {
            return p;
        }
        self.stage.clear();
        for line in 0..lines {
            let q = p.wrapping_offset((line as i64 * across) as isize);
            // SAFETY: as the caller vouches.
            self.stage
                .extend((0..len).map(|i| unsafe { q.wrapping_offset((i as i64 * stride) as isize).read_unaligned() }));
        }
        self.stage.as_ptr()
    }
}

/// The units of which sums without shift and scale, of values taken to be finite, do not say enough.
fn again<W: Wide>(tile: &Tile<W>, values: u64) -> Vec<bool> {
    (0..tile.shift.len())
        .map(|unit| {
            let (min, max) = (tile.min[unit].to_f64(), tile.max[unit].to_f64());
            let (sum, squares) = (tile.sum[unit], tile.squares[unit]);
            !squares.is_finite()
                || (W::DTYPE == crate::Dtype::F64 && scale_for(min.abs().max(max.abs())) != 0)
                || (min < max && Moments::from_sums(values, 0.0, sum, squares, 0).1)
        })
        .collect()
}

/// Chooses scales and better shifts where the sums of a look are bad; `false` when all are good. `values` says how many values each unit has.
pub(crate) fn improve<W: Wide>(tile: &mut Tile<W>, values: impl Fn(usize) -> u64) -> bool {
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
        let finite = values(unit) - u64::from(tile.nonfinite[unit]);
        let (moments, bad) = Moments::from_sums(finite, tile.shift[unit], tile.sum[unit], tile.squares[unit], scale);
        if bad && moments.mean.hi.is_finite() {
            tile.shift[unit] = moments.mean.hi;
            again = true;
        }
    }
    again
}

/// The units of a tile; `values` says how many values each has.
pub(crate) fn finish<W: Wide>(tile: &Tile<W>, values: impl Fn(usize) -> u64) -> Vec<Unit> {
    (0..tile.shift.len())
        .map(|i| {
            let nonfinite = u64::from(tile.nonfinite[i]);
            let finite = values(i) - nonfinite;
            let zero = u64::from(tile.zero[i]);
            // Adding +0 turns -0 into it: an extreme of zero has no sign.
            let (min, max) = (tile.min[i].to_f64() + 0.0, tile.max[i].to_f64() + 0.0);
            let moments = if min == max {
                let scale = scale_for(min.abs());
                Moments {
                    count: finite,
                    mean: crate::number::double::Double { hi: scalb(min, -scale), lo: 0.0 },
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
