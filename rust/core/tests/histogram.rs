//! Histograms against an obviously right count: every value is compared with every edge, exactly. Knows nothing of how bins are found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tensorstats_core::axis::edges::{Grid, Method};
use tensorstats_core::dtype::element::{Element, F16};
use tensorstats_core::histogram::Bins;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::{Axis, Dtype, Histogram, Level, Number, TensorView, with_element};

/// Counts below, in each bin and above, then NaN.
fn naive(values: &[Number], edges: &[f64]) -> (Vec<u64>, u64) {
    let mut counts = vec![0; edges.len() + 1];
    let mut nan = 0;
    for &x in values {
        if x.to_f64().is_nan() {
            nan += 1;
            continue;
        }
        let mut rank = edges.iter().filter(|&&e| Number::Float(e).compare(x).is_le()).count();
        if Number::Float(edges[edges.len() - 1]).compare(x).is_eq() {
            rank -= 1;
        }
        counts[rank] += 1;
    }
    (counts, nan)
}

fn numbers(bytes: &[u8], dtype: Dtype) -> Vec<Number> {
    with_element!(dtype, E => {
        bytes.chunks_exact(size_of::<E>()).map(|chunk| {
            // SAFETY: the chunk has the size of an element, which is valid for every bit pattern.
            let x = unsafe { chunk.as_ptr().cast::<E>().read_unaligned() };
            if E::DTYPE.is_integer() { Number::Int(x.to_i128()) } else { Number::Float(x.to_f64()) }
        }).collect()
    })
}

fn counted(bytes: &[u8], dtype: Dtype, axis: &Axis, options: &Options<'_>) -> Histogram {
    let shape = [(bytes.len() / dtype.size()) as i64];
    // SAFETY: the bytes hold as many elements.
    let view = unsafe { TensorView::new(bytes.as_ptr(), dtype, &shape, None) };
    Histogram::of(&view, axis, options)
}

fn linspace(bins: usize, start: f64, stop: f64) -> Vec<f64> {
    let step = (stop - start) / bins as f64;
    if step.is_infinite() {
        return linspace(bins, start / 2.0, stop / 2.0).into_iter().map(|e| 2.0 * e).collect();
    }
    let mut edges: Vec<f64> = (0..=bins).map(|i| start + step * i as f64).collect();
    edges[bins] = stop;
    edges
}

fn every_way(mut check: impl FnMut(&Options<'_>)) {
    for &level in Level::available() {
        for threads in [1, 3] {
            check(&Options { threads, level, interrupted: &|| false });
        }
    }
}

/// Values that are hard for an axis: its edges, their neighbours in f64 and f32, and what is special in floats.
fn hard_values(edges: &[f64]) -> Vec<f64> {
    let mut values = vec![
        0.0,
        -0.0,
        5e-324,
        -5e-324,
        1e-45,
        -1e-45,
        1e-310,
        f64::MAX,
        f64::MIN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -f64::NAN,
    ];
    for &e in edges {
        let single = e as f32;
        values.extend([e, e.next_up(), e.next_down(), -e]);
        values.extend([single, single.next_up(), single.next_down()].map(f64::from));
    }
    for pair in edges.windows(2) {
        values.push(pair[0] / 2.0 + pair[1] / 2.0);
    }
    values
}

const RANGES: [(usize, f64, f64); 17] = [
    (1, 0.0, 1.0),
    (10, 0.0, 1.0),
    (64, -4.0, 4.0),
    (10, -3.0, 3.0),
    (7, -1.0, 0.0),
    (7, 0.1, 0.7),
    (64, 0.0, 64.0),
    (63, -64.0, 63.0),
    (1000, 1e6, 1e6 + 1.0),
    (64, 1.0, 1.0 + 1e-13),
    (16, -1e300, 1e300),
    (16, -1.7e308, 1.7e308),
    (16, 1e-310, 9e-310),
    (16, -1e-40, 1e-40),
    (16, -3e38, 3e38),
    (33, -9.3e18, 1.9e19),
    (1500, -1.0, 2.0),
];

#[test]
fn hard_values_of_many_ranges_in_f64_and_f32() {
    for (bins, start, stop) in RANGES {
        let edges = linspace(bins, start, stop);
        let axes = [Axis::regular(start, stop, edges.clone()).unwrap(), Axis::variable(edges.clone()).unwrap()];
        let doubles = hard_values(&edges);
        let singles: Vec<f32> = doubles.iter().map(|&x| x as f32).collect();
        for axis in &axes {
            every_way(|options| {
                for (bytes, dtype) in [
                    (doubles.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>(), Dtype::F64),
                    (singles.iter().flat_map(|x| x.to_ne_bytes()).collect(), Dtype::F32),
                ] {
                    let (expected, nan) = naive(&numbers(&bytes, dtype), &edges);
                    let found = counted(&bytes, dtype, axis, options);
                    let Bins::Edges(counts) = &found.bins else { panic!("not an edge table") };
                    assert_eq!(counts, &expected, "{axis} {dtype:?} {} {}", options.level.name(), options.threads);
                    assert_eq!(found.specials.nan, nan);
                }
            });
        }
    }
}

#[test]
fn integers_beyond_2_53_are_compared_exactly() {
    let big = 1_i64 << 60;
    let edges = linspace(4, big as f64, (big + 4096) as f64);
    let axis = Axis::regular(edges[0], edges[4], edges.clone()).unwrap();
    let values: Vec<i64> = (-2..4100).map(|i| big + i).chain([i64::MIN, i64::MAX, 0, 1 << 53, (1 << 53) + 1]).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let (expected, _) = naive(&numbers(&bytes, Dtype::I64), &edges);
    every_way(|options| {
        let Bins::Edges(counts) = counted(&bytes, Dtype::I64, &axis, options).bins else { panic!("not an edge table") };
        assert_eq!(counts, expected);
    });
}

/// Sign and number of the bin, by exact arithmetic on the value.
fn log_place(x: Number, precision: u8) -> i64 {
    let p = i64::from(precision);
    let place = |octave: i64, leading: i64| ((octave + 1074) << p) + leading + 1;
    match x {
        Number::Int(0) => 0,
        Number::Int(n) => {
            let magnitude = n.unsigned_abs();
            let octave = 127 - i64::from(magnitude.leading_zeros());
            let leading = ((magnitude << (127 - octave)) << 1 >> (128 - p).min(127)) as i64;
            n.signum() as i64 * place(octave, if p == 0 { 0 } else { leading })
        }
        Number::Float(x) => {
            if x == 0.0 {
                return 0;
            }
            let (mut octave, mut m) = (0_i64, x.abs());
            while m < 1.0 {
                m *= 2.0;
                octave -= 1;
            }
            while m >= 2.0 {
                m /= 2.0;
                octave += 1;
            }
            x.signum() as i64 * place(octave, ((m - 1.0) * (1_i64 << p) as f64).floor() as i64)
        }
    }
}

fn check_log(bytes: &[u8], dtype: Dtype, precision: u8, options: &Options<'_>) {
    let values = numbers(bytes, dtype);
    let finite: Vec<Number> = values.iter().copied().filter(|x| x.to_f64().is_finite()).collect();
    let mut expected = std::collections::BTreeMap::<i64, u64>::new();
    for &x in &finite {
        *expected.entry(log_place(x, precision)).or_default() += 1;
    }
    let axis = Axis::log_linear(i64::from(precision)).unwrap();
    let found = counted(bytes, dtype, &axis, options);
    assert_eq!(
        found.entries(),
        expected.into_iter().collect::<Vec<_>>(),
        "{dtype:?} {precision} {}",
        options.level.name()
    );
    assert_eq!(found.count_all(), values.len() as u64);
    let (edges, counts) = found.dense();
    assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(counts.iter().sum::<u64>(), finite.len() as u64);
    for lower in 0..precision {
        let direct = counted(bytes, dtype, &Axis::log_linear(i64::from(lower)).unwrap(), options);
        assert_eq!(found.lower_precision(i64::from(lower)).unwrap().to_bytes(), direct.to_bytes());
    }
    assert_eq!(Histogram::from_bytes(&found.to_bytes()).unwrap().to_bytes(), found.to_bytes());
    check_quantiles(&found, finite, precision);
}

fn check_quantiles(found: &Histogram, mut finite: Vec<Number>, precision: u8) {
    finite.sort_by(|&a, &b| a.compare(b));
    let (low, high) = (found.specials.neginf as usize, found.specials.posinf as usize);
    let n = low + finite.len() + high;
    for i in 0..=20 {
        let q = f64::from(i) / 20.0;
        let value = found.quantile(q).unwrap();
        if n == 0 {
            assert!(value.is_nan());
            continue;
        }
        let rank = ((q * n as f64).ceil() as usize).clamp(1, n);
        if rank <= low {
            assert_eq!(value, f64::NEG_INFINITY);
        } else if rank > n - high {
            assert_eq!(value, f64::INFINITY);
        } else {
            let right = finite[rank - 1 - low].to_f64();
            let bound = right.abs() * (-f64::from(precision) - 1.0).exp2();
            assert!((value - right).abs() <= bound, "{value} for {right}, precision {precision}");
            if found.value_bits <= precision {
                assert_eq!(value, right);
            }
        }
    }
}

#[test]
fn every_pattern_of_the_narrow_dtypes() {
    for dtype in Dtype::ALL.iter().copied().filter(|d| d.size() <= 2) {
        let bytes: Vec<u8> =
            if dtype.size() == 1 { (0..=255).collect() } else { (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect() };
        for precision in [0, 2, 3, 7, 10] {
            every_way(|options| check_log(&bytes, dtype, precision, options));
        }
        let edges = linspace(50, -3.0, 5.5);
        let axis = Axis::regular(-3.0, 5.5, edges.clone()).unwrap();
        let (expected, _) = naive(&numbers(&bytes, dtype), &edges);
        let Bins::Edges(counts) = counted(&bytes, dtype, &axis, &Options::standard()).bins else {
            panic!("not an edge table")
        };
        assert_eq!(counts, expected);
    }
}

#[test]
fn narrow_floats_are_lossless_at_their_own_precision() {
    for (dtype, precision) in [(Dtype::F16, 10), (Dtype::Bf16, 7), (Dtype::F8E4M3FN, 3), (Dtype::F8E5M2, 2)] {
        let bytes: Vec<u8> =
            if dtype.size() == 1 { (0..=255).collect() } else { (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect() };
        let found = counted(&bytes, dtype, &Axis::log_linear(precision).unwrap(), &Options::standard());
        assert!(found.entries().iter().all(|&(place, n)| n == if place == 0 { 2 } else { 1 }));
    }
}

#[test]
fn a_range_that_grows_while_it_is_counted() {
    let mut values: Vec<f64> = vec![1.0; 5000];
    for i in 0..2000 {
        values.extend([(f64::from(i) - 1073.0).exp2().min(f64::MAX), -1.5, 0.0, 5e-324]);
        values.resize(values.len() + 50, -3.0);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    for precision in [0, 6, 10] {
        every_way(|options| check_log(&bytes, Dtype::F64, precision, options));
    }
}

#[test]
fn threads_and_chunks_do_not_show() {
    let values: Vec<f32> =
        (0..2_500_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / 4e9 - 0.5) * (i % 37) as f32).collect();
    let shape = [values.len() as i64];
    let view = TensorView::from_slice(&values, &shape);
    for axis in [Axis::log_linear(6).unwrap(), Axis::regular(-9.0, 9.0, linspace(64, -9.0, 9.0)).unwrap()] {
        let alone =
            Histogram::of(&view, &axis, &Options { threads: 1, level: Level::PORTABLE, interrupted: &|| false });
        assert_eq!(alone.count_all(), values.len() as u64);
        every_way(|options| assert_eq!(Histogram::of(&view, &axis, options).to_bytes(), alone.to_bytes()));
    }
}

#[test]
fn axes_that_cannot_be() {
    let message = |result: tensorstats_core::Result<Axis>| result.unwrap_err().to_string();
    assert_eq!(message(Axis::log_linear(11)), "precision must be in [0, 10], got: 11");
    assert_eq!(message(Axis::variable(vec![1.0])), "an axis needs at least two edges, got: 1");
    assert_eq!(message(Axis::variable(vec![1.0, f64::NAN])), "edges must be finite, got: NaN");
    assert_eq!(message(Axis::variable(vec![1.0, 3.0, 2.0])), "edges must increase, got: 3 followed by 2");
    assert_eq!(message(Axis::regular(1.0, 1.0, vec![1.0, 1.0])), "range must be finite and increasing, got: (1, 1)");
    assert!(
        message(Axis::regular(1.0, 2.0, vec![1.0, 1.0, 2.0]))
            .starts_with("too many bins for the range: 2 bins of (1, 2)")
    );
}

#[test]
fn which_ranges_need_no_comparison_with_their_edges() {
    let method = |bins, start, stop, grid| {
        let axis = Axis::regular(start, stop, linspace(bins, start, stop)).unwrap();
        axis.edges().unwrap().method(grid)
    };
    // Negative numbers too small to change 4.0 when it is added to them would be guessed into the bin above zero.
    let Method::Guess { soft: Some(soft), .. } = method(64, -4.0, 4.0, Grid::F32) else { panic!("not proven") };
    assert_eq!((soft.guessed, soft.right, soft.to), (32, 31, 0.0));
    assert!(soft.from < -1e-17 && soft.from > -1e-15);
    assert!(matches!(method(10, 0.0, 1.0, Grid::F32), Method::Guess { soft: None, .. }));
    assert!(matches!(method(64, -64.0, 64.0, Grid::Int), Method::Guess { soft: None, .. }));
    assert!(matches!(method(10, -3.0, 3.0, Grid::F64), Method::Compare { .. }));
    assert!(matches!(method(64, 1.0, 1.0 + 1e-13, Grid::F64), Method::Search | Method::Compare { .. }));
    assert_eq!(method(16, -1.7e308, 1.7e308, Grid::F64), Method::Search);
}

#[test]
fn quantiles_inside_a_bin_are_linear() {
    let axis = Axis::regular(0.0, 4.0, linspace(4, 0.0, 4.0)).unwrap();
    let values = [0.5, 1.5, 1.5, 1.5, 1.5, 3.0, -1.0, 9.0];
    let shape = [8];
    let found = Histogram::of(&TensorView::from_slice(&values, &shape), &axis, &Options::standard());
    let quantile = |q| found.quantile(q).unwrap();
    assert_eq!([quantile(0.0), quantile(0.125), quantile(0.25)], [f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0]);
    assert_eq!([quantile(0.5), quantile(0.75), quantile(1.0)], [1.5, 2.0, f64::INFINITY]);
    assert!(found.quantile(1.1).is_err() && found.quantile(f64::NAN).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bits_of_any_dtype_on_any_edges(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        dtype in prop::sample::select(Dtype::ALL),
        mut edges in prop::collection::vec(prop_oneof![-5.0..5.0_f64, -1e30..1e30_f64, any::<f64>().prop_filter("finite", |x| x.is_finite())], 2..40),
        level in prop::sample::select(Level::available().to_vec()),
    ) {
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        prop_assume!(edges.len() > 1 && edges.windows(2).all(|p| p[0] < p[1]));
        let options = Options { threads: 1, level, interrupted: &|| false };
        let bytes = &bytes[..bytes.len() - bytes.len() % dtype.size()];
        let (expected, nan) = naive(&numbers(bytes, dtype), &edges);
        let found = counted(bytes, dtype, &Axis::variable(edges).unwrap(), &options);
        let Bins::Edges(counts) = &found.bins else { panic!("not an edge table") };
        prop_assert_eq!(counts, &expected);
        prop_assert_eq!(found.specials.nan, nan);
        prop_assert_eq!(Histogram::from_bytes(&found.to_bytes()).unwrap().to_bytes(), found.to_bytes());
    }

    #[test]
    fn any_range_of_equal_bins(
        (start, width) in prop_oneof![(-100.0..100.0_f64, 1e-6..100.0_f64), (-1e20..1e20_f64, 1e3..1e20_f64), (-1e-5..1e-5_f64, 1e-12..1e-3_f64)],
        bins in 1..200_usize,
        places in prop::collection::vec(-0.2..1.2_f64, 0..300),
        level in prop::sample::select(Level::available().to_vec()),
    ) {
        let edges = linspace(bins, start, start + width);
        prop_assume!(edges.windows(2).all(|p| p[0] < p[1]));
        let axis = Axis::regular(edges[0], edges[bins], edges.clone()).unwrap();
        let options = Options { threads: 1, level, interrupted: &|| false };
        let mut values = hard_values(&edges);
        values.extend(places.iter().map(|t| start + t * width));
        for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::I64, Dtype::I32] {
            let bytes: Vec<u8> = match dtype {
                Dtype::F64 => values.iter().flat_map(|x| x.to_ne_bytes()).collect(),
                Dtype::F32 => values.iter().flat_map(|&x| (x as f32).to_ne_bytes()).collect(),
                Dtype::F16 => values.iter().flat_map(|&x| half::f16::from_f64(x).to_bits().to_ne_bytes()).collect(),
                Dtype::I64 => values.iter().flat_map(|&x| (x as i64).to_ne_bytes()).collect(),
                _ => values.iter().flat_map(|&x| (x as i32).to_ne_bytes()).collect(),
            };
            let (expected, _) = naive(&numbers(&bytes, dtype), &edges);
            let Bins::Edges(counts) = counted(&bytes, dtype, &axis, &options).bins else { panic!("not an edge table") };
            prop_assert_eq!(counts, expected, "{} {:?}", axis, dtype);
        }
    }

    #[test]
    fn any_bits_of_any_dtype_by_their_leading_bits(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        dtype in prop::sample::select(Dtype::ALL),
        precision in 0..=10_u8,
        level in prop::sample::select(Level::available().to_vec()),
    ) {
        let bytes = &bytes[..bytes.len() - bytes.len() % dtype.size()];
        check_log(bytes, dtype, precision, &Options { threads: 1, level, interrupted: &|| false });
    }

    #[test]
    fn pieces_merge_to_the_whole(values in prop::collection::vec(any::<f32>(), 0..600), cut in 0..600_usize, p in 0..=10_i64) {
        let cut = cut.min(values.len());
        for axis in [Axis::log_linear(p).unwrap(), Axis::variable(vec![-1e20, -1.0, 0.0, 1e-30, 7.0]).unwrap()] {
            let of = |part: &[f32]| {
                let shape = [part.len() as i64];
                Histogram::of(&TensorView::from_slice(part, &shape), &axis, &Options::standard())
            };
            for (a, b) in [(&values[..cut], &values[cut..]), (&values[cut..], &values[..cut])] {
                let mut merged = of(a);
                merged.merge(&of(b)).unwrap();
                prop_assert_eq!(merged.to_bytes(), of(&values).to_bytes());
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic(at in 0..10_000_usize, bit in 0..8_u32, cut in 0..10_000_usize) {
        let values: Vec<F16> = (0..200).map(|i| F16(i * 321)).collect();
        let shape = [200];
        for axis in [Axis::log_linear(10).unwrap(), Axis::variable(vec![-1.0, 0.0, 7.0]).unwrap()] {
            let whole = Histogram::of(&TensorView::from_slice(&values, &shape), &axis, &Options::standard());
            let mut bytes = whole.to_bytes();
            let n = bytes.len();
            bytes[at % n] ^= 1 << bit;
            bytes.truncate(if cut % 3 == 0 { cut % n } else { n });
            if let Ok(mut other) = Histogram::from_bytes(&bytes) {
                let _ = other.merge(&whole);
                let _ = (other.to_string(), other.quantile(0.5), other.dense().0.len());
            }
        }
    }
}
