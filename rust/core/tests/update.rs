//! Changes of tensors against differences taken one by one.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use tensorstats_core::kernel::Moments;
use tensorstats_core::many::changes::{Change, changes};
use tensorstats_core::many::snapshot::Snapshot;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::{Axis, Histogram, Level, Sketch, Summary, TensorView};

fn values(len: usize, factor: f32) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / 1e9 - 2.0) * factor).collect()
}

/// With a NaN, an infinity and a subnormal here and there.
fn spoiled(mut values: Vec<f32>) -> Vec<f32> {
    for (every, x) in [(9973, f32::NAN), (20_011, f32::INFINITY), (30_011, 1e-40)] {
        values.iter_mut().skip(every / 2).step_by(every).for_each(|value| *value = x);
    }
    values
}

/// Far from zero beside their spread.
fn shifted(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|x| 1e4 + x).collect()
}

fn options(threads: usize, level: Level) -> Options<'static> {
    Options { threads, level, interrupted: &|| false }
}

#[test]
fn changes_are_differences_at_every_level_and_thread_count() {
    let axis = Axis::LogLinear { precision: 6 };
    for len in [0, 1, 31, 4097, 65_536, 200_001, 1_300_000] {
        let (old, new) = (values(len, 1.0), values(len, 1.01));
        for [old, new] in [
            [old.clone(), new.clone()],
            [old.clone(), spoiled(new.clone())],
            [spoiled(shifted(old.clone())), spoiled(shifted(new))],
            [shifted(old.clone()), old],
        ] {
            check(&old, &new, &axis);
        }
    }
}

fn check(old: &[f32], new: &[f32], axis: &Axis) {
    let len = new.len();
    let difference: Vec<f32> = new.iter().zip(old).map(|(new, old)| new - old).collect();
    let shape = [len as i64];
    let mut snapshot = Snapshot::default();
    snapshot.take(&TensorView::from_slice(old, &shape));
    let view = TensorView::from_slice(new, &shape);
    let expected_view = TensorView::from_slice(&difference, &shape);
    for &level in Level::available() {
        for threads in [1, 2, 5] {
            let options = options(threads, level);
            let found = changes(std::slice::from_ref(&view), &[Some(&snapshot)], Some(axis), &options);
            let [Change { value, update: Some(update), sketch }] = found.as_slice() else { panic!("one change") };
            assert_eq!(value.summary, Summary::of(&view, Moments::Two, &options), "{len} {threads}");
            assert_eq!(update.summary, Summary::of(&expected_view, Moments::Two, &options), "{len} {threads}");
            assert_eq!(value.histogram, Some(Histogram::of(&view, axis, &options)), "{len} {threads}");
            assert_eq!(update.histogram, Some(Histogram::of(&expected_view, axis, &options)), "{len} {threads}");
            assert_eq!(*sketch, Sketch::of(&view), "{len} {threads}");
        }
    }
}

#[test]
fn without_a_snapshot_that_fits_there_is_no_update() {
    let (old, new) = (values(10, 1.0), values(12, 1.0));
    let mut snapshot = Snapshot::default();
    snapshot.take(&TensorView::from_slice(&old, &[10]));
    let view = TensorView::from_slice(&new, &[12]);
    let options = options(1, Level::best());
    for snapshots in [vec![Some(&snapshot)], vec![None], Vec::new()] {
        let found = changes(std::slice::from_ref(&view), &snapshots, None, &options);
        assert!(found[0].update.is_none());
        assert_eq!(found[0].value.summary.stats.counts.total(), 12);
    }
    snapshot.forget();
    assert!(!snapshot.fits(&TensorView::from_slice(&old, &[10])));
}
