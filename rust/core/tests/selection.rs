//! Owns the claims that a masked view is the dense tensor of its chosen elements, and that formats have the thresholds of their standards.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::Random;
use common::options;
use tensorstats_core::kernel::Moments;
use tensorstats_core::summary::formats::{FORMATS, Fits, Limits};
use tensorstats_core::{Dtype, Error, Level, Summary, TensorView};

/// Values and a mask of them, and the chosen ones.
fn masked(len: usize, share: u64) -> (Vec<f32>, Vec<u8>, Vec<f32>) {
    let mut random = Random(len as u64 + share);
    let values: Vec<f32> = (0..len).map(|i| i as f32 - 1000.5).collect();
    let mask: Vec<u8> = (0..len).map(|_| u8::from(random.below(100) < share) * (1 + random.below(255) as u8)).collect();
    let chosen = values.iter().zip(&mask).filter(|&(_, &m)| m != 0).map(|(&x, _)| x).collect();
    (values, mask, chosen)
}

#[test]
fn a_masked_view_is_the_tensor_of_its_chosen_elements() {
    for len in [0, 1, 15, 63, 64, 65, 8192, 200_001] {
        for share in [0, 3, 50, 97, 100] {
            let (values, mask, chosen) = masked(len, share);
            let (shape, dense_shape) = ([len as i64], [chosen.len() as i64]);
            let x = TensorView::from_slice(&values, &shape);
            // SAFETY: a slice of bytes, dense.
            let mask = unsafe { TensorView::new(mask.as_ptr(), Dtype::Bool, &shape, None) };
            for &level in Level::available() {
                let options = options(level, 3);
                let selected = x.select(&mask, &options).unwrap();
                assert_eq!(selected.count(), chosen.len() as u64);
                let want = Summary::of(&TensorView::from_slice(&chosen, &dense_shape), Moments::Four, &options);
                assert_eq!(Summary::of(&selected, Moments::Four, &options).to_bytes(), want.to_bytes());
            }
        }
    }
}

#[test]
fn a_mask_that_does_not_fit_is_an_error() {
    let options = options(Level::PORTABLE, 1);
    let (values, shape) = ([1.0_f32; 6], [2, 3]);
    // SAFETY: six floats, dense.
    let x = unsafe { TensorView::new(values.as_ptr().cast(), Dtype::F32, &shape, None) };
    let rows = TensorView::from_slice(&[tensorstats_core::dtype::element::Bool(1); 2], &[2]);
    assert!(matches!(x.select(&rows, &options), Err(Error::MaskShape { .. })));
    assert!(matches!(x.select(&x, &options), Err(Error::MaskDtype("float32"))));
}

#[test]
fn formats_have_the_thresholds_of_their_standards() {
    // The last magnitudes that become zero, a subnormal, a finite number; ties go to the even neighbour.
    let table = [
        (Dtype::F8E4M3FN, -10, 2_f64.powi(-6) - 2_f64.powi(-10), 464.0, true),
        (Dtype::F8E5M2, -17, 2_f64.powi(-14) - 2_f64.powi(-17), 61_440.0, false),
        (Dtype::F16, -25, 2_f64.powi(-14) - 2_f64.powi(-25), 65_520.0, false),
        (Dtype::Bf16, -134, 2_f64.powi(-126) - 2_f64.powi(-134), 511.0 * 2_f64.powi(119), false),
    ];
    for (format, half_smallest, first_normal, overflow, tie_is_finite) in table {
        let limits = Limits::of(Dtype::F64, format, 1.0);
        assert_eq!(f64::from_bits(limits.zero), 2_f64.powi(half_smallest));
        assert_eq!(f64::from_bits(limits.subnormal), first_normal.next_down());
        assert_eq!(f64::from_bits(limits.finite), if tie_is_finite { overflow } else { overflow.next_down() });
    }
}

#[test]
fn limits_stay_in_order_and_in_range_for_any_scale() {
    for &dtype in Dtype::ALL {
        for format in FORMATS {
            for scale in [5e-324, 1e-200, 0.3, 1.0, 3e38, f64::MAX] {
                let Limits { zero, subnormal, finite } = Limits::of(dtype, format, scale);
                assert!(zero <= subnormal && subnormal <= finite);
            }
        }
    }
    assert!(matches!(Fits::new(&[Dtype::F32], 1.0), Err(Error::Argument(_))));
    assert!(matches!(Fits::new(&FORMATS, f64::NAN), Err(Error::Argument(_))));
}
