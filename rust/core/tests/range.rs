//! Range checks against a plain loop with exact comparisons. Knows nothing of how values are compared in bulk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tensorstats_core::dtype::element::Element;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::query::range::{Bounds, Place, Rule, first, first_nonfinite, tally};
use tensorstats_core::{Dtype, Level, Number, TensorView, with_element};

fn numbers(bytes: &[u8], dtype: Dtype) -> Vec<Number> {
    with_element!(dtype, E => {
        bytes.chunks_exact(size_of::<E>()).map(|chunk| {
            // SAFETY: the chunk has the size of an element, which is valid for every bit pattern.
            let x = unsafe { chunk.as_ptr().cast::<E>().read_unaligned() };
            if E::DTYPE.is_integer() { Number::Int(x.to_i128()) } else { Number::Float(x.to_f64()) }
        }).collect()
    })
}

fn breaks(x: Number, rule: Rule, low: Option<Number>, high: Option<Number>, infinities: bool) -> bool {
    let value = x.to_f64();
    let compared = !value.is_nan() && (infinities || value.is_finite());
    match rule {
        Rule::NonFinite => !value.is_finite(),
        Rule::Below => compared && low.is_some_and(|b| x.compare(b).is_lt()),
        Rule::Above => compared && high.is_some_and(|b| x.compare(b).is_gt()),
    }
}

fn check(bytes: &[u8], dtype: Dtype, low: Option<Number>, high: Option<Number>, infinities: bool) {
    let Ok(bounds) = Bounds::new(low, high, infinities) else { return };
    let values = numbers(bytes, dtype);
    let shape = [values.len() as i64];
    // SAFETY: the bytes hold as many elements.
    let view = unsafe { TensorView::new(bytes.as_ptr(), dtype, &shape, None) };
    for &level in Level::available() {
        for threads in [1, 3] {
            let options = Options { threads, level, interrupted: &|| false };
            let found = tally(&view, &bounds, &options);
            let s = found.specials;
            for (rule, count) in
                [(Rule::NonFinite, s.nan + s.posinf + s.neginf), (Rule::Below, found.below), (Rule::Above, found.above)]
            {
                let broken = |x: &Number| breaks(*x, rule, low, high, infinities);
                assert_eq!(
                    count,
                    values.iter().filter(|x| broken(x)).count() as u64,
                    "{dtype:?} {rule:?} {low:?} {high:?}"
                );
                let place = first(&view, &bounds, rule, &options);
                assert_eq!(place.as_ref().map(|p| p.flat), values.iter().position(&broken).map(|i| i as u64));
                if let Some(Place { flat, index, value }) = place {
                    let expected = values[flat as usize];
                    assert!(value == expected || value.to_f64().is_nan() && expected.to_f64().is_nan());
                    assert_eq!(index, [flat]);
                }
            }
            assert_eq!(
                first_nonfinite(&view, &options).map(|p| p.flat),
                values.iter().position(|x| !x.to_f64().is_finite()).map(|i| i as u64)
            );
        }
    }
}

fn bounds_of_interest() -> Vec<Number> {
    let mut bounds: Vec<Number> =
        [0.0, -0.0, 0.1, -1.5, 127.0, 1e-45, 5e-324, 65504.0, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::MAX]
            .into_iter()
            .map(Number::Float)
            .collect();
    let wholes = [
        0,
        1,
        -1,
        127,
        255,
        -128,
        65535,
        (1 << 24) + 1,
        (1 << 53) + 1,
        i128::from(i64::MAX),
        i128::from(i64::MIN),
        i128::from(u64::MAX),
        i128::MAX,
        i128::MIN,
    ];
    bounds.extend(wholes.into_iter().map(Number::Int));
    bounds
}

#[test]
fn every_pattern_of_the_narrow_dtypes_and_the_ends_of_the_wide_ones() {
    for &dtype in Dtype::ALL {
        let bytes: Vec<u8> = match dtype.size() {
            1 => (0..=255).collect(),
            2 => (0..=u16::MAX).flat_map(u16::to_ne_bytes).collect(),
            4 => (0..=u16::MAX).step_by(7).flat_map(|i| (u32::from(i) << 16 | u32::from(i)).to_ne_bytes()).collect(),
            _ => {
                (0..=u16::MAX).step_by(7).flat_map(|i| (u64::from(i) << 48 | u64::from(i % 3)).to_ne_bytes()).collect()
            }
        };
        for bound in bounds_of_interest() {
            check(&bytes, dtype, Some(bound), None, false);
            check(&bytes, dtype, None, Some(bound), true);
        }
        check(&bytes, dtype, Some(Number::Int(-3)), Some(Number::Float(7.5)), true);
    }
}

#[test]
fn the_first_is_first_in_index_order() {
    let mut values = vec![0.0_f32; 6 * 7 * 8];
    values[5 * 56 + 3 * 8 + 2] = f32::NAN;
    values[4 * 56 + 6 * 8 + 7] = f32::INFINITY;
    for (shape, strides, start, index) in [
        ([6, 7, 8], [56, 8, 1], 0, [4, 6, 7]),
        ([8, 7, 6], [1, 8, 56], 0, [2, 3, 5]),
        ([6, 7, 8], [-56, -8, -1], 6 * 56 - 1, [0, 3, 5]),
        ([7, 6, 8], [8, 56, 1], 0, [3, 5, 2]),
    ] {
        // SAFETY: all elements are inside.
        let view =
            unsafe { TensorView::new(values.as_ptr().wrapping_add(start).cast(), Dtype::F32, &shape, Some(&strides)) };
        let place = first_nonfinite(&view, &Options::standard()).unwrap();
        assert_eq!(place.index, index);
        assert_eq!(place.flat, (index[0] * shape[1] as u64 + index[1]) * shape[2] as u64 + index[2]);
    }
}

#[test]
fn late_offenders_of_a_big_tensor() {
    let mut values = vec![1.0_f32; 3_000_000];
    values[2_999_999] = f32::NAN;
    values[2_000_001] = -5.0;
    values[2_000_002] = -6.0;
    let shape = [3_000_000];
    let view = TensorView::from_slice(&values, &shape);
    let bounds = Bounds::new(Some(Number::Int(0)), None, false).unwrap();
    for threads in [1, 2, 4] {
        let options = Options { threads, level: Level::best(), interrupted: &|| false };
        assert_eq!(first_nonfinite(&view, &options).unwrap().flat, 2_999_999);
        assert_eq!(first(&view, &bounds, Rule::Below, &options).unwrap().flat, 2_000_001);
        assert_eq!(tally(&view, &bounds, &options).below, 2);
    }
}

#[test]
fn bounds_that_cannot_be() {
    let message = |low, high| Bounds::new(Some(low), Some(high), false).unwrap_err().to_string();
    assert_eq!(message(Number::Float(f64::NAN), Number::Int(1)), "min must be a number, got: nan");
    assert_eq!(message(Number::Int(2), Number::Float(1.5)), "min must not exceed max, got: min 2 and max 1.5");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_bits_against_any_bounds(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        dtype in prop::sample::select(Dtype::ALL),
        a in any::<f64>(),
        b in any::<i64>(),
        infinities in any::<bool>(),
    ) {
        let bytes = &bytes[..bytes.len() - bytes.len() % dtype.size()];
        let whole = Number::Int(i128::from(b));
        check(bytes, dtype, Some(Number::Float(a)), Some(whole), infinities);
        check(bytes, dtype, Some(whole), Some(Number::Float(a)), infinities);
        for x in numbers(bytes, dtype).into_iter().take(5) {
            check(bytes, dtype, Some(x), Some(x), infinities);
        }
    }
}
