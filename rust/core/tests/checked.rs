//! Owns the claim that states which no data can give are refused where bytes come in, and that those which data gives never are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::data::{Case, Memory, Random, cases};
use common::{options, portable, properties};
use proptest::prelude::*;
use tensorstats_core::kernel::Moments;
use tensorstats_core::summary::formats::{FORMATS, Fits};
use tensorstats_core::{Axis, Dtype, Error, Histogram, Level, Number, Summary, TensorView, UnitActivity};

fn summary_of(case: &Case, moments: Moments, fits: Option<&Fits>) -> Summary {
    Summary::of_formats(&Memory::new(&case.bits(), case.dtype, 0).view(), moments, fits, &options(Level::best(), 1))
}

fn axes(random: &mut Random) -> Vec<Axis> {
    let start = random.normal() * 10_f64.powf(600.0 * random.unit() - 300.0);
    let stop = start + start.abs() * (1e-3 + random.unit());
    let bins = 1 + random.below(40) as usize;
    let edges = |start: f64, stop: f64| -> Vec<f64> {
        let step = (stop - start) / bins as f64;
        (0..bins).map(|i| start + i as f64 * step).chain([stop]).collect()
    };
    vec![
        Axis::regular(start, stop, edges(start, stop)).unwrap(),
        Axis::variable(vec![-1e300, -1.0, 0.0, 1e-310, 7.0]).unwrap(),
        Axis::log_linear(random.below(11) as i64).unwrap(),
        Axis::linear(2 + random.below(100) as i64).unwrap(),
    ]
}

/// Everything a summary says, beside what any set of values would.
fn makes_sense(s: &Summary) -> bool {
    let (counts, number) = (s.stats.counts, Number::to_f64);
    let total = counts.total();
    if counts.finite() == 0 {
        return number(s.sum()).is_nan() && number(s.min()).is_nan() && s.mean().is_nan() && total < 1 << 63;
    }
    let (min, max) = (number(s.min()), number(s.max()));
    let (absmin, absmax) = (number(s.absmin()), number(s.absmax()));
    if absmax < f64::from(f32::MIN_POSITIVE) {
        return total < 1 << 63 && min <= max; // devices may have lost what there was to sum
    }
    let off = 1e-4 * absmax;
    let between = |x: f64| x >= min - off && x <= max + off;
    total < 1 << 63
        && min <= max
        && (absmin.is_nan() || (absmin > 0.0 && absmin <= absmax))
        && (counts.negative > 0) == (min < 0.0)
        && (counts.positive > 0) == (max > 0.0)
        && counts.subnormal <= counts.negative + counts.positive
        && between(s.mean())
        && number(s.l1()) >= number(s.sum()).abs() * (1.0 - 1e-4)
        && s.rms() <= absmax * (1.0 + 1e-4)
        && s.l2() * (1.0 + 1e-4) >= absmax
        && s.std(0.0) <= (max - min) / 2.0 + 2e-5 * absmax
}

proptest! {
    #![proptest_config(properties(400))]

    #[test]
    fn real_summaries_are_taken(parts in proptest::collection::vec(cases(300), 1..4), four in any::<bool>(), scale in -60..60_i32, doublings in 0..50_u32) {
        let moments = if four { Moments::Four } else { Moments::Two };
        let fits = Fits::new(&FORMATS, 2_f64.powi(scale)).unwrap();
        for fits in [None, Some(&fits)] {
            let mut total = Summary::with_formats(moments, fits);
            for part in &parts {
                let part = summary_of(part, moments, fits);
                prop_assert_eq!(&Summary::from_bytes(&part.to_bytes()).unwrap(), &part);
                total.merge(&part).unwrap();
            }
            for _ in 0..doublings {
                let same = total.clone();
                total.merge(&same).unwrap();
            }
            prop_assert_eq!(&Summary::from_bytes(&total.to_bytes()).unwrap(), &total);
        }
    }

    #[test]
    fn real_histograms_are_taken(parts in proptest::collection::vec(cases(300), 1..3), seed in any::<u64>(), lower in 0..11_i64) {
        for axis in axes(&mut Random(seed)) {
            let mut total = Histogram::new(axis.clone());
            for part in &parts {
                let bits = part.bits();
                total.merge(&Histogram::of(&Memory::new(&bits, part.dtype, 0).view(), &axis, &options(Level::best(), 1))).unwrap();
                prop_assert_eq!(&Histogram::from_bytes(&total.to_bytes()).unwrap(), &total);
            }
            if let Ok(lowered) = total.lower_precision(lower) {
                prop_assert_eq!(&Histogram::from_bytes(&lowered.to_bytes()).unwrap(), &lowered);
            }
        }
    }

    #[test]
    fn real_unit_activities_are_taken(parts in proptest::collection::vec(cases(300), 1..4), low in -2.0..2.0_f64, doublings in 0..50_u32) {
        for saturation in [None, Some((low, low + 1.0)), Some((f64::NEG_INFINITY, low)), Some((f64::INFINITY, f64::INFINITY))] {
            let mut total = UnitActivity::new(1, saturation).unwrap();
            for part in &parts {
                let bits = part.bits();
                let memory = Memory::new(&bits, part.dtype, 0);
                let shape = [(bits.len() / 3) as i64, 3];
                // SAFETY: at most as many elements as there are.
                let view = unsafe { TensorView::new(memory.address(), part.dtype, &shape, None) };
                total.merge(&UnitActivity::of(&view, 1, saturation, &options(Level::best(), 1)).unwrap()).unwrap();
            }
            for _ in 0..doublings {
                let same = total.clone();
                total.merge(&same).unwrap();
            }
            prop_assert_eq!(UnitActivity::from_bytes(&total.to_bytes()).unwrap().to_bytes(), total.to_bytes());
        }
    }

    #[test]
    fn a_changed_summary_is_refused_or_makes_sense(case in cases(100), seed in any::<u64>(), four in any::<bool>()) {
        let moments = if four { Moments::Four } else { Moments::Two };
        let bytes = portable(&Memory::new(&case.bits(), case.dtype, 0).view(), moments).to_bytes();
        let random = &mut Random(seed);
        for _ in 0..50 {
            let mut changed = bytes.clone();
            for _ in 0..=random.below(2) {
                changed[random.below(bytes.len() as u64) as usize] ^= 1 << random.below(8);
            }
            if let Ok(summary) = Summary::from_bytes(&changed) {
                prop_assert!(makes_sense(&summary), "{:?}", summary);
            }
        }
    }

    #[test]
    fn a_changed_unit_activity_is_refused_or_makes_sense(case in cases(100), seed in any::<u64>()) {
        let bits = case.bits();
        let memory = Memory::new(&bits, case.dtype, 0);
        let shape = [(bits.len() / 2) as i64, 2];
        // SAFETY: at most as many elements as there are.
        let view = unsafe { TensorView::new(memory.address(), case.dtype, &shape, None) };
        let bytes = UnitActivity::of(&view, 1, Some((-1.0, 1.0)), &options(Level::best(), 1)).unwrap().to_bytes();
        let random = &mut Random(seed);
        for _ in 0..50 {
            let mut changed = bytes.clone();
            changed[random.below(bytes.len() as u64) as usize] ^= 1 << random.below(8);
            let Ok(activity) = UnitActivity::from_bytes(&changed) else { continue };
            for unit in &activity.units {
                let off = 1e-4 * unit.min.abs().max(unit.max.abs()) + 1e-30;
                let finite = unit.active + unit.zero;
                prop_assert!(unit.count() < 1 << 63 && unit.last_active <= activity.updates, "{unit:?}");
                prop_assert!(finite == 0 || (unit.min <= unit.max && unit.low + unit.high <= finite), "{unit:?}");
                prop_assert!(finite == 0 || (unit.mean() >= unit.min - off && unit.mean() <= unit.max + off), "{unit:?}");
            }
        }
    }
}

/// Values far from zero and near each other, where a variance is nothing beside the squares. No variance is beyond what mean and ends allow.
#[test]
fn a_variance_beyond_the_ends_is_refused() {
    for (dtype, allowed, refused) in [(Dtype::F32, 1e-6, 0.1), (Dtype::I32, 1e-6, 0.1), (Dtype::F64, 1e-10, 1e-4)] {
        for ends in [[1000, 1001, 1000, 1001], [-1001, -1000, -1001, -1001], [1000, 1000, 1000, 1001]] {
            let bits = ends.map(|x: i32| match dtype {
                Dtype::F32 => u64::from((x as f32).to_bits()),
                Dtype::F64 => f64::from(x).to_bits(),
                _ => u64::from(x as u32),
            });
            let counted = portable(&Memory::new(&bits.repeat(100), dtype, 0).view(), Moments::Two);
            let with = |more: f64| {
                let mut changed = counted.clone();
                changed.stats.m2.hi *= 1.0 + more;
                Summary::from_bytes(&changed.to_bytes())
            };
            assert!(with(0.0).is_ok() && with(allowed).is_ok(), "{dtype:?} {ends:?}");
            let error = with(refused).unwrap_err().to_string();
            assert!(error.contains("variance, mean and extremes"), "{dtype:?} {ends:?}: {error}");
        }
    }
}

#[test]
fn a_merge_beyond_what_can_be_counted_changes_nothing() {
    let values = [1.0_f32, -2.0, 0.0, f32::NAN];
    let shape = [4];
    let view = TensorView::from_slice(&values, &shape);
    let mut summary = portable(&view, Moments::Two);
    let mut histogram = Histogram::of(&view, &Axis::log_linear(3).unwrap(), &options(Level::best(), 1));
    let mut units = UnitActivity::of(&view, 0, None, &options(Level::best(), 1)).unwrap();
    for _ in 0..60 {
        let same = (summary.clone(), histogram.clone(), units.clone());
        summary.merge(&same.0).unwrap();
        histogram.merge(&same.1).unwrap();
        units.merge(&same.2).unwrap();
    }
    assert_eq!((summary.stats.counts.total(), histogram.count_all(), units.updates), (1 << 62, 1 << 62, 1 << 60));
    let same = (summary.clone(), histogram.clone(), units.clone());
    let refused = "must stay below 2^63, got: 4611686018427387904 and 4611686018427387904 more";
    assert_eq!(summary.merge(&same.0), Err(Error::Overflow(format!("the values of a Summary {refused}"))));
    assert_eq!(histogram.merge(&same.1), Err(Error::Overflow(format!("the values of a Histogram {refused}"))));
    // A unit here has one value an update: 2^60 of each, and eight times as many are too many.
    for _ in 0..2 {
        units.merge(&units.clone()).unwrap();
    }
    let before = units.to_bytes();
    assert_eq!(units.merge(&units.clone()), Err(Error::Overflow(format!("the updates of a UnitActivity {refused}"))));
    assert_eq!(units.to_bytes(), before);
    assert_eq!((summary.to_bytes(), histogram.to_bytes()), (same.0.to_bytes(), same.1.to_bytes()));
    assert_eq!(Histogram::from_bytes(&histogram.to_bytes()).unwrap(), histogram);
    // What is only compared is not merged.
    assert_eq!(histogram.aligned(&same.1).unwrap().1[0], same.1.dense().1);
}
