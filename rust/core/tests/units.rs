//! Unit activity against a plain loop over indices with sums in pairs of floats. Knows nothing of tiles, items or threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tensorstats_core::dtype::element::{Class, Element};
use tensorstats_core::number::double::Double;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::units::Unit;
use tensorstats_core::{Dtype, Level, TensorView, UnitActivity, with_element};

/// What a unit should be: counts, extremes, mean and standard deviation.
#[derive(Debug, Default)]
struct Expected {
    counts: [u64; 5],
    values: Vec<f64>,
}

impl Expected {
    fn mean(&self) -> f64 {
        let sum = self.values.iter().fold(Double::ZERO, |sum, &x| sum.add(Double::new(x, 0.0)));
        sum.divided_by(self.values.len() as f64).value()
    }

    fn std(&self) -> f64 {
        let n = self.values.len() as f64;
        let sum = self.values.iter().fold(Double::ZERO, |sum, &x| sum.add(Double::new(x, 0.0)));
        let mean = sum.divided_by(n);
        let squares = self.values.iter().fold(Double::ZERO, |sum, &x| {
            let d = Double::new(x, 0.0).add(mean.negate()).value();
            sum.add(Double::new(d * d, 0.0))
        });
        (squares.value() / n).sqrt()
    }

    fn check(&self, found: &Unit) {
        assert_eq!([found.active, found.zero, found.nonfinite, found.low, found.high], self.counts);
        if self.values.is_empty() {
            assert!(found.mean().is_nan() && found.std(0.0).is_nan() || found.count() == self.counts[2]);
            return;
        }
        let min = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert_eq!((found.min, found.max), (min, max));
        let (mean, std) = (self.mean(), self.std());
        if min == max {
            assert_eq!((found.mean(), found.std(0.0)), (min, 0.0));
        } else if std.is_finite() && std > 1e-140 && mean.abs() < 1e6 * std {
            assert!((found.std(0.0) - std).abs() <= 1e-9 * std, "std {} for {std}", found.std(0.0));
            assert!((found.mean() - mean).abs() <= 1e-12 * mean.abs().max(std), "mean {} for {mean}", found.mean());
        }
    }
}

/// One tensor in memory: `places` says where the elements are, in C order of the shape.
struct Tensor {
    bytes: Vec<u8>,
    dtype: Dtype,
    shape: Vec<i64>,
    strides: Vec<i64>,
    start: i64,
}

impl Tensor {
    fn view(&self) -> TensorView<'_> {
        let data = self.bytes.as_ptr().wrapping_offset((self.start * self.dtype.size() as i64) as isize);
        // SAFETY: the makers below keep every element inside the bytes.
        unsafe { TensorView::new(data, self.dtype, &self.shape, Some(&self.strides)) }
    }

    fn expected(&self, dim: usize, saturation: Option<(f64, f64)>) -> Vec<Expected> {
        let mut units: Vec<Expected> = (0..self.shape[dim]).map(|_| Expected::default()).collect();
        let count: i64 = self.shape.iter().product();
        for flat in 0..count {
            let (mut rest, mut place, mut unit) = (flat, self.start, 0);
            for d in (0..self.shape.len()).rev() {
                let i = rest % self.shape[d];
                rest /= self.shape[d];
                place += i * self.strides[d];
                unit = if d == dim { i } else { unit };
            }
            let expected = &mut units[unit as usize];
            let at = place as usize * self.dtype.size();
            with_element!(self.dtype, E => {
                // SAFETY: inside the bytes; every pattern is an element.
                let x = unsafe { self.bytes[at..at + size_of::<E>()].as_ptr().cast::<E>().read_unaligned() };
                match x.class() {
                    Class::Nan | Class::PosInf | Class::NegInf => expected.counts[2] += 1,
                    class => {
                        expected.counts[usize::from(class == Class::Zero)] += 1;
                        let x = x.to_f64();
                        let (low, high) = saturation.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
                        expected.counts[3] += u64::from(x < low);
                        expected.counts[4] += u64::from(x > high);
                        expected.values.push(x);
                    }
                }
            });
        }
        units
    }

    fn check(&self, saturation: Option<(f64, f64)>) {
        for dim in 0..self.shape.len() {
            let expected = self.expected(dim, saturation);
            let of =
                |dim: i64, options: &Options<'_>| UnitActivity::of(&self.view(), dim, saturation, options).unwrap();
            let first = of(dim as i64, &Options { threads: 1, level: Level::PORTABLE, interrupted: &|| false });
            assert_eq!(first.units.len(), expected.len());
            for (unit, expected) in first.units.iter().zip(&expected) {
                expected.check(unit);
                assert_eq!(unit.last_active, u64::from(unit.active > 0));
            }
            for &level in Level::available() {
                for threads in [1, 2, 5] {
                    let again = of(dim as i64, &Options { threads, level, interrupted: &|| false });
                    assert_eq!(again.to_bytes(), first.to_bytes(), "{} {threads}", level.name());
                }
            }
            let negative = of(dim as i64 - self.shape.len() as i64, &Options::standard());
            assert_eq!(negative.units, first.units);
        }
    }
}

/// Elements of a dtype around a value, with some of every class among them.
fn bytes_of(dtype: Dtype, count: usize, centre: f64, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / f64::from(u32::MAX)
    };
    let mut bytes = Vec::new();
    for _ in 0..count {
        let kind = random();
        let x = if kind < 0.2 { 0.0 } else { centre + 4.0 * (random() + random() - 1.0) };
        let x = if kind > 0.98 {
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0][(random() * 3.99) as usize]
        } else {
            x
        };
        match dtype {
            Dtype::F64 => bytes.extend(x.to_ne_bytes()),
            Dtype::F32 => bytes.extend((x as f32).to_ne_bytes()),
            Dtype::F16 => bytes.extend(half::f16::from_f64(x).to_bits().to_ne_bytes()),
            Dtype::Bf16 => bytes.extend(half::bf16::from_f64(x).to_bits().to_ne_bytes()),
            _ => bytes.extend((0..dtype.size()).map(|_| (random() * 255.9) as u8)),
        }
    }
    bytes
}

/// Dense memory with the dimensions in the given order, outermost first.
fn permuted(dtype: Dtype, shape: &[i64], order: &[usize], seed: u32) -> Tensor {
    let mut strides = vec![0; shape.len()];
    let mut step = 1;
    for &d in order.iter().rev() {
        strides[d] = step;
        step *= shape[d];
    }
    Tensor { bytes: bytes_of(dtype, step as usize, 1.0, seed), dtype, shape: shape.to_vec(), strides, start: 0 }
}

#[test]
fn every_dtype_in_every_order_of_dimensions() {
    for (seed, &dtype) in Dtype::ALL.iter().enumerate() {
        for shape in [[3, 20, 5, 7], [2, 3, 18, 17]] {
            for order in [[0, 1, 2, 3], [0, 2, 3, 1], [3, 2, 1, 0], [1, 0, 2, 3], [2, 0, 3, 1]] {
                permuted(dtype, &shape, &order, seed as u32).check(Some((-0.5, 2.0)));
            }
        }
        permuted(dtype, &[40, 33], &[0, 1], seed as u32).check(None);
        permuted(dtype, &[40], &[0], seed as u32).check(None);
    }
}

#[test]
fn slices_repeats_and_backward_strides() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::I64, Dtype::F64] {
        let bytes = || bytes_of(dtype, 40 * 30 * 20, -2.0, 7);
        for (shape, strides, start) in [
            (vec![20, 15, 10], vec![1200, 40, 2], 3),
            (vec![40, 30, 20], vec![-600, -20, -1], 40 * 600 - 1),
            (vec![20, 30, 40], vec![-1, 20, 600], 19),
            (vec![9, 30, 20], vec![0, 20, 1], 600),
            (vec![30, 20, 6], vec![20, 1, 0], 0),
            (vec![5, 6, 7], vec![0, 0, 0], 11),
            (vec![20, 18], vec![3, 17], 5),
            (vec![1, 30, 1, 20], vec![7, 20, 9, 1], 0),
        ] {
            Tensor { bytes: bytes(), dtype, shape, strides, start }.check(Some((-3.0, 0.0)));
        }
    }
}

#[test]
fn finite_values_and_a_few_that_are_not() {
    for length in (1..40).chain([64, 100]) {
        for shape in [[3, 20, length], [length, 2, 16 + length % 17]] {
            let count: i64 = shape.iter().product();
            let at = |i: i64| i * 7919 % count;
            // Zeros of both signs, and no NaN or infinity.
            let mut values: Vec<f64> = (0..count)
                .map(|i| if at(i) % 5 == 0 { [0.0, -0.0][i as usize % 2] } else { at(i) as f64 / 64.0 - 3.0 })
                .collect();
            let check = |values: &[f64]| {
                let shape = shape.to_vec();
                let strides = vec![shape[1] * shape[2], shape[2], 1];
                let wide = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
                let narrow = values.iter().flat_map(|&x| (x as f32).to_ne_bytes()).collect();
                let half = values.iter().flat_map(|&x| half::f16::from_f64(x).to_bits().to_ne_bytes()).collect();
                for (dtype, bytes) in [(Dtype::F64, wide), (Dtype::F32, narrow), (Dtype::F16, half)] {
                    let (shape, strides) = (shape.clone(), strides.clone());
                    Tensor { bytes, dtype, shape, strides, start: 0 }.check((length % 2 == 0).then_some((-1.0, 2.5)));
                }
            };
            check(&values);
            // A row far from zero for its spread, and one NaN.
            let row = shape[2] as usize;
            for x in &mut values[row..2 * row] {
                *x = 1000.0 + *x / 1024.0;
            }
            check(&values);
            values[at(3) as usize] = f64::NAN;
            check(&values);
        }
    }
}

#[test]
fn many_items_and_tiles() {
    // More rows than an item, more units than a tile, runs longer than an item.
    permuted(Dtype::F32, &[9000, 40], &[0, 1], 1).check(None);
    permuted(Dtype::F32, &[70, 600], &[0, 1], 2).check(Some((0.0, 1.0)));
    permuted(Dtype::F32, &[3, 140_000], &[0, 1], 3).check(None);
    permuted(Dtype::Bf16, &[2, 5, 40_000], &[0, 1, 2], 4).check(None);
    permuted(Dtype::Bf16, &[20_000, 3], &[0, 1], 5).check(None);
}

#[test]
fn a_mean_a_million_times_the_spread() {
    for (shape, order) in [([5000, 20], [0, 1]), ([20, 5000], [0, 1])] {
        let mut tensor = permuted(Dtype::F64, &shape, &order, 9);
        let count = 100_000;
        let values: Vec<f64> = (0..count).map(|i| 1e6 + f64::from((i * 7919) % 1000) / 500.0).collect();
        tensor.bytes = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
        tensor.check(None);
        // A first value that is a bad shift.
        for i in 0..5000 {
            tensor.bytes[8 * i..8 * i + 8].copy_from_slice(&(-3.0e7_f64).to_ne_bytes());
        }
        tensor.check(None);
    }
}

#[test]
fn constants_and_the_ends_of_the_range() {
    for x in [0.1, 1e300, -1e-300, 3.3e5, 5e-324, f64::MAX] {
        let bytes: Vec<u8> = (0..3000).flat_map(|_| x.to_ne_bytes()).collect();
        let tensor = Tensor { bytes, dtype: Dtype::F64, shape: vec![100, 30], strides: vec![30, 1], start: 0 };
        tensor.check(None);
        let options = Options::standard();
        let mut total = UnitActivity::of(&tensor.view(), 1, None, &options).unwrap();
        for _ in 0..5 {
            total.merge(&UnitActivity::of(&tensor.view(), 1, None, &options).unwrap()).unwrap();
        }
        assert!(total.units.iter().all(|u| u.std(0.0) == 0.0 && u.mean() == x));
    }
    for scale in [1e300, 1e-300, 1e-310] {
        let values: Vec<f64> = (0..4000).map(|i| scale * f64::from(i % 17 - 5)).collect();
        let plain: Vec<f64> = (0..4000).map(|i| f64::from(i % 17 - 5)).collect();
        for dim in [0, 1] {
            let std = |values: &[f64]| {
                let shape = [100, 40];
                // SAFETY: four thousand values.
                let view = unsafe { TensorView::new(values.as_ptr().cast(), Dtype::F64, &shape, None) };
                UnitActivity::of(&view, dim, None, &Options::standard())
                    .unwrap()
                    .units
                    .iter()
                    .map(|unit| unit.std(0.0))
                    .collect::<Vec<_>>()
            };
            for (found, unit) in std(&values).into_iter().zip(std(&plain)) {
                assert!((found - unit * scale).abs() <= 1e-9 * unit * scale + 1e-322, "{found} for {}", unit * scale);
            }
        }
    }
}

#[test]
fn updates_and_when_a_unit_was_last_active() {
    let options = Options::standard();
    let rows = [[0.0_f32, 1.0, 0.0], [0.0, 0.0, f32::NAN], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]];
    let shape = [1, 3];
    let of = |row: &[f32; 3]| {
        // SAFETY: three values.
        let view = unsafe { TensorView::new(row.as_ptr().cast(), Dtype::F32, &shape, None) };
        UnitActivity::of(&view, 1, None, &options).unwrap()
    };
    let mut total = UnitActivity::new(1, None).unwrap();
    for row in &rows {
        total.merge(&of(row)).unwrap();
    }
    assert_eq!(total.updates, 4);
    assert_eq!(total.units.iter().map(|u| u.last_active).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!(total.dead_units(0.0).unwrap(), [0]);
    assert_eq!(total.dead_units(0.25).unwrap(), [0, 1, 2]);
    let (mut left, mut right) = (of(&rows[0]), of(&rows[2]));
    left.merge(&of(&rows[1])).unwrap();
    right.merge(&of(&rows[3])).unwrap();
    left.merge(&right).unwrap();
    assert_eq!(left.units.iter().map(|u| u.last_active).collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn what_cannot_be_is_refused() {
    let values = [1.0_f32; 6];
    let shape = [2, 3];
    // SAFETY: six values.
    let view = unsafe { TensorView::new(values.as_ptr().cast(), Dtype::F32, &shape, None) };
    let options = Options::standard();
    let message = |dim, saturation| UnitActivity::of(&view, dim, saturation, &options).unwrap_err().to_string();
    assert_eq!(message(2, None), "dim must be in [-2, 1] for a tensor of rank 2, got: 2");
    assert_eq!(message(0, Some((2.0, 1.0))), "saturation must be two bounds with low <= high, got: (2, 1)");
    let by_rows = UnitActivity::of(&view, 0, None, &options).unwrap();
    let mut by_columns = UnitActivity::of(&view, 1, None, &options).unwrap();
    assert_eq!(
        by_columns.merge(&by_rows).unwrap_err().to_string(),
        "cannot merge unit activities of different numbers of units: 3 and 2"
    );
    assert!(by_rows.saturated_fraction().is_err());
    // SAFETY: a 0-d tensor has one element.
    let scalar = unsafe { TensorView::new(values.as_ptr().cast(), Dtype::F32, &[], None) };
    assert!(UnitActivity::of(&scalar, 0, None, &options).is_err());
    for shape in [[0, 3], [3, 0]] {
        // SAFETY: nothing is read.
        let empty = unsafe { TensorView::new(values.as_ptr().cast(), Dtype::F32, &shape, None) };
        let units = UnitActivity::of(&empty, 1, None, &options).unwrap();
        assert_eq!((units.units.len(), units.dead_units(1.0).unwrap().len()), (shape[1] as usize, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn any_shape_of_any_dtype(
        shape in prop::collection::vec(1..25_i64, 1..5),
        dtype in prop::sample::select(Dtype::ALL),
        order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(),
        seed in any::<u32>(),
    ) {
        prop_assume!(shape.iter().product::<i64>() < 20_000);
        let order: Vec<usize> = order.into_iter().filter(|&d| d < shape.len()).collect();
        permuted(dtype, &shape, &order, seed).check(Some((-1.0, 1.5)));
    }

    #[test]
    fn pieces_merge_to_the_whole(cut in 0..200_usize, centre in -1e4..1e4_f64, seed in any::<u32>()) {
        let tensor = Tensor { bytes: bytes_of(Dtype::F32, 200 * 18, centre, seed), dtype: Dtype::F32, shape: vec![200, 18], strides: vec![18, 1], start: 0 };
        let part = |from: usize, rows: usize| {
            let shape = [rows as i64, 18];
            // SAFETY: rows of the tensor.
            let view = unsafe { TensorView::new(tensor.bytes.as_ptr().wrapping_add(from * 72), Dtype::F32, &shape, None) };
            UnitActivity::of(&view, 1, Some((0.0, 1.0)), &Options::standard()).unwrap()
        };
        let mut merged = part(0, cut);
        merged.merge(&part(cut, 200 - cut)).unwrap();
        for (unit, expected) in merged.units.iter().zip(tensor.expected(1, Some((0.0, 1.0)))) {
            expected.check(unit);
        }
        prop_assert_eq!(UnitActivity::from_bytes(&merged.to_bytes()).unwrap().to_bytes(), merged.to_bytes());
    }

    #[test]
    fn damaged_bytes_never_panic(at in 0..10_000_usize, bit in 0..8_u32, cut in 0..10_000_usize) {
        let tensor = permuted(Dtype::F32, &[5, 6], &[0, 1], 3);
        let whole = UnitActivity::of(&tensor.view(), 1, Some((0.0, 1.0)), &Options::standard()).unwrap();
        let mut bytes = whole.to_bytes();
        let n = bytes.len();
        bytes[at % n] ^= 1 << bit;
        bytes.truncate(if cut % 3 == 0 { cut % n } else { n });
        if let Ok(mut other) = UnitActivity::from_bytes(&bytes) {
            let _ = other.merge(&whole);
            let _ = (other.to_string(), other.dead_fraction(0.1), other.saturated_fraction());
            let _ = other.units.iter().map(|u| u.mean() + u.std(0.0) + u.var(1.0)).sum::<f64>();
        }
    }
}
