//! Owns the speed of the kernels: bytes per second of a summary per dtype, SIMD level and size, on one thread and on all.
//! Every bench checks its answer first. Knows nothing of Python.
//!
//! `cargo bench -p tensorstats-core -- f32` runs what has f32 in its name, `-- --quick` spends little time on each,
//! `-- --test` only checks the answers.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::panic, reason = "a bench with a wrong answer must not give a time")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensorstats_core::dtype::element::{Bf16, Element, F8E4M3FN, F8E5M2, F16};
use tensorstats_core::kernel::Moments;
use tensorstats_core::parallel::scan::{Options, thread_count};
use tensorstats_core::{Level, Summary, TensorView};

/// In the first-level cache, in the second-level cache, in the last-level cache, in memory.
const SIZES: [(&str, usize); 4] =
    [("4 KiB", 4 << 10), ("256 KiB", 256 << 10), ("4 MiB", 4 << 20), ("256 MiB", 256 << 20)];

/// What the values look like: the kernels take other paths for some of it.
#[derive(Clone, Copy)]
enum Look {
    /// Uniform around zero.
    Uniform,
    /// The same, a hundred away from zero: the variance needs a second look.
    Offset,
    /// The same, with one NaN in a thousand: most blocks are looked at again.
    Nan,
}

impl Look {
    const ALL: [(&'static str, Self); 3] = [("uniform", Self::Uniform), ("offset", Self::Offset), ("nan", Self::Nan)];

    /// Value number `i`: Knuth's multiplicative hash, spread over [-0.5, 0.5).
    fn value(self, i: usize) -> f32 {
        let uniform = (i as u32).wrapping_mul(2_654_435_761) as f32 / 4_294_967_296.0 - 0.5;
        match self {
            Self::Offset => uniform + 100.0,
            Self::Nan if i % 1000 == 999 => f32::NAN,
            Self::Uniform | Self::Nan => uniform,
        }
    }
}

fn options(level: Level, threads: usize) -> Options<'static> {
    Options { threads, level, interrupted: &|| false }
}

/// Compares with a plain loop over the values: close where the loop itself rounds, equal where it counts.
fn check<E: Element>(values: &[E], summary: &Summary) {
    let (mut sum, mut l1, mut finite) = (0.0, 0.0, 0_u64);
    for x in values.iter().map(|x| x.to_f64()).filter(|x| x.is_finite()) {
        sum += x;
        l1 += x.abs();
        finite += 1;
    }
    let counts = summary.stats.counts;
    assert_eq!((counts.total(), counts.finite()), (values.len() as u64, finite), "wrong counts of {}", E::DTYPE.name());
    let got = summary.sum().to_f64();
    assert!((got - sum).abs() <= l1 * 1e-9, "wrong sum of {}: {got}, expected {sum}", E::DTYPE.name());
}

fn bench_dtype<E: Element>(
    criterion: &mut Criterion,
    look: (&str, Look),
    sizes: &[(&str, usize)],
    encode: fn(f32) -> E,
) {
    let largest = sizes.iter().map(|size| size.1).max().unwrap_or(0);
    let all: Vec<E> = (0..largest / size_of::<E>()).map(|i| encode(look.1.value(i))).collect();
    for &(size, bytes) in sizes {
        let values = &all[..bytes / size_of::<E>()];
        let shape = [values.len() as i64];
        let view = TensorView::from_slice(values, &shape);
        let mut group = criterion.benchmark_group(format!("summary/{}/{}/{size}", E::DTYPE.short(), look.0));
        group.throughput(Throughput::Bytes(bytes as u64));
        for &level in Level::available() {
            let mut threads = vec![1];
            if bytes >= 4 << 20 && level == Level::best() && thread_count() > 1 {
                threads.push(thread_count());
            }
            for threads in threads {
                let id = BenchmarkId::new(level.name(), format!("{threads} threads"));
                group.bench_function(id, |bencher| {
                    check(values, &Summary::of(&view, Moments::Two, &options(level, threads)));
                    bencher.iter(|| Summary::of(black_box(&view), Moments::Two, &options(level, threads)));
                });
            }
        }
        group.finish();
    }
}

fn bench_dtypes(criterion: &mut Criterion) {
    let uniform = Look::ALL[0];
    bench_dtype(criterion, uniform, &SIZES, |x| x);
    bench_dtype(criterion, uniform, &SIZES, |x| Bf16((x.to_bits() >> 16) as u16));
    bench_dtype(criterion, uniform, &SIZES, |x| F16(half::f16::from_f32(x).to_bits()));
    bench_dtype(criterion, uniform, &SIZES, f64::from);
    bench_dtype(criterion, uniform, &SIZES, |x| (x * 250.0) as i8);
    bench_dtype(criterion, uniform, &SIZES, |x| (x * 1e6) as i32);
    bench_dtype(criterion, uniform, &SIZES, |x| (x * 1e12) as i64);
    // Any code that is not NaN: the time depends on how often codes repeat, not on their values.
    bench_dtype(criterion, uniform, &SIZES, |x| F8E4M3FN((x * 250.0) as i8 as u8 & 0x7e));
    bench_dtype(criterion, uniform, &SIZES, |x| F8E5M2((x * 250.0) as i8 as u8 & 0x7b));
}

fn bench_looks(criterion: &mut Criterion) {
    for look in &Look::ALL[1..] {
        bench_dtype(criterion, *look, &SIZES[1..3], |x| x);
        bench_dtype(criterion, *look, &SIZES[1..3], |x| Bf16((x.to_bits() >> 16) as u16));
        bench_dtype(criterion, *look, &SIZES[1..3], f64::from);
    }
}

fn bench_moments(criterion: &mut Criterion) {
    let values: Vec<f32> = (0..1 << 20).map(|i| Look::Uniform.value(i)).collect();
    let shape = [values.len() as i64];
    let view = TensorView::from_slice(&values, &shape);
    let mut group = criterion.benchmark_group("summary/f32/four moments/4 MiB");
    group.throughput(Throughput::Bytes(4 << 20));
    for &level in Level::available() {
        group.bench_function(level.name(), |bencher| {
            check(&values, &Summary::of(&view, Moments::Four, &options(level, 1)));
            bencher.iter(|| Summary::of(black_box(&view), Moments::Four, &options(level, 1)));
        });
    }
    group.finish();
}

criterion_group!(kernels, bench_dtypes, bench_looks, bench_moments);
criterion_main!(kernels);
