//! Owns the promises a summary makes, each as a comparison with the exact answer. Knows nothing of how either is computed.

use tensorstats_core::kernel::Moments;
use tensorstats_core::{Dtype, Number, Summary};

use super::fraction::Fraction;
use super::oracle::Oracle;

/// Half the smallest subnormal: what rounding alone can do to a result below the normal range.
const UNDERFLOW: f64 = f64::MIN_POSITIVE * f64::EPSILON;

/// Checks every promise; the error lists the broken ones.
pub(crate) fn check(summary: &Summary, oracle: &Oracle) -> Result<(), String> {
    let mut broken = Broken(Vec::new());
    check_exact(&mut broken, summary, oracle);
    if oracle.n() == 0 {
        let rest = [summary.mean(), summary.var(0.0), summary.std(0.0), summary.l2(), summary.rms()];
        broken.unless(rest.iter().all(|x| x.is_nan()), || format!("without finite values all is NaN, got: {rest:?}"));
    } else {
        check_sums(&mut broken, summary, oracle);
        check_norms(&mut broken, summary, oracle);
        check_moments(&mut broken, summary, oracle);
    }
    if broken.0.is_empty() { Ok(()) } else { Err(broken.0.join("\n")) }
}

struct Broken(Vec<String>);

impl Broken {
    fn unless(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(message());
        }
    }

    /// `got` differs from `exact` by at most `bound`, or is the infinity that a result beyond the range of floats rounds to.
    fn close(&mut self, name: &str, got: f64, exact: &Fraction, bound: &Fraction) {
        let beyond = !exact.abs().at_most(&Fraction::of(f64::MAX).minus(bound));
        let rounded = if exact.is_negative() { f64::NEG_INFINITY } else { f64::INFINITY };
        let holds = if got.is_finite() {
            Fraction::of(got).minus(exact).abs().at_most(bound)
        } else {
            beyond && got == rounded
        };
        self.unless(holds, || {
            let error = if got.is_finite() { Fraction::of(got).minus(exact).abs().to_f64() } else { f64::NAN };
            format!("{name}: got {got:e}, exact {:e}, error {error:e}, allowed {:e}", exact.to_f64(), bound.to_f64())
        });
    }

    /// As [`Broken::close`] for a square root: `got` is within a relative `tolerance` of the root of `square`.
    fn close_root(&mut self, name: &str, got: f64, square: &Fraction, tolerance: f64) {
        let low = square.times(&Fraction::of(1.0 - tolerance).square());
        let high = square.times(&Fraction::of(1.0 + tolerance).square());
        let largest = Fraction::of(f64::MAX).square();
        let holds = if got.is_finite() {
            // One step of the smallest subnormal to either side.
            let below = Fraction::of((got - UNDERFLOW).max(0.0)).square();
            let above = Fraction::of(got + UNDERFLOW).square();
            got >= 0.0 && below.at_most(&high) && low.at_most(&above)
        } else {
            got == f64::INFINITY && !high.at_most(&largest)
        };
        self.unless(holds, || {
            format!("{name}: got {got:e}, exact square {:e}, allowed relative {tolerance:e}", square.to_f64())
        });
    }
}

fn same(got: Number, expected: Option<Number>) -> bool {
    match (got, expected) {
        (Number::Int(a), Some(Number::Int(b))) => a == b,
        (Number::Float(a), Some(Number::Float(b))) => a.to_bits() == b.to_bits(),
        // Summaries of several dtypes show integers as floats.
        (Number::Float(a), Some(Number::Int(b))) => a == b as f64,
        (Number::Float(a), None) => a.is_nan(),
        _ => false,
    }
}

fn check_exact(broken: &mut Broken, summary: &Summary, oracle: &Oracle) {
    let counts = summary.stats.counts;
    broken.unless(counts == oracle.counts, || format!("counts: got {counts:?}, exact {:?}", oracle.counts));
    for (name, got, expected) in [
        ("min", summary.min(), oracle.min),
        ("max", summary.max(), oracle.max),
        ("absmax", summary.absmax(), oracle.absmax),
        ("absmin", summary.absmin(), oracle.absmin),
    ] {
        broken.unless(same(got, expected), || format!("{name}: got {got:?}, exact {expected:?}"));
    }
}

fn check_sums(broken: &mut Broken, summary: &Summary, oracle: &Oracle) {
    let n = oracle.n();
    let underflow = Fraction::of(UNDERFLOW);
    let l1_bound = oracle.l1.times(&Fraction::of(4e-14)).plus(&underflow);
    if summary.dtype().is_some_and(Dtype::is_integer) {
        for (name, got, exact) in [("sum", summary.sum(), &oracle.sum), ("l1", summary.l1(), &oracle.l1)] {
            let equal = matches!(got, Number::Int(got) if Fraction::whole(got).minus(exact).is_zero());
            broken.unless(equal, || format!("{name}: got {got:?}, exact {:e}", exact.to_f64()));
        }
    } else {
        let compensated =
            oracle.sum.abs().times(&Fraction::of(2_f64.powi(-52))).plus(&oracle.l1.times(&Fraction::of(1e-28)));
        let bound = if summary.dtype() == Some(Dtype::F64) { compensated.plus(&underflow) } else { l1_bound.clone() };
        broken.close("sum", summary.sum().to_f64(), &oracle.sum, &bound);
        broken.close("l1", summary.l1().to_f64(), &oracle.l1, &l1_bound);
    }
    // The mean is the sum divided and rounded once more.
    let mean = oracle.sum.over(n);
    let rounding = mean.abs().times(&Fraction::of(2_f64.powi(-51))).plus(&underflow);
    let slack = if summary.dtype() == Some(Dtype::F64) { Fraction::of(1e-28) } else { Fraction::of(4e-14) };
    broken.close("mean", summary.mean(), &mean, &oracle.l1.times(&slack).over(n).plus(&rounding));
}

fn check_norms(broken: &mut Broken, summary: &Summary, oracle: &Oracle) {
    let squares = &oracle.powers[0];
    broken.close_root("l2", summary.l2(), squares, 1e-13);
    broken.close_root("rms", summary.rms(), &squares.over(oracle.n()), 1e-13);
}

fn check_moments(broken: &mut Broken, summary: &Summary, oracle: &Oracle) {
    let n = oracle.n();
    if oracle.is_constant() {
        let (var, std) = (summary.var(0.0), summary.std(0.0));
        broken.unless(var == 0.0 && std == 0.0, || format!("a constant has no variance, got var {var:e}, std {std:e}"));
        return;
    }
    let [m2, m3, m4] = oracle.central();
    let var = m2.over(n);
    // |mean| / std <= 1e6: beyond, nothing is promised but a number that is not negative.
    if !oracle.sum.over(n).square().at_most(&var.times(&Fraction::of(1e12))) {
        broken.unless(summary.var(0.0) >= 0.0, || format!("var: got {:e}", summary.var(0.0)));
        return;
    }
    for correction in [0_u64, 1] {
        let exact = m2.over(n - correction);
        let bound = exact.times(&Fraction::of(1e-9)).plus(&Fraction::of(UNDERFLOW));
        broken.close("var", summary.var(correction as f64), &exact, &bound);
        broken.close_root("std", summary.std(correction as f64), &exact, 1e-9);
    }
    if summary.moments == Moments::Four {
        let variance_cubed = var.square().times(&var);
        let skewness = m3.over(n).square().ratio(&variance_cubed).sqrt() * if m3.is_negative() { -1.0 } else { 1.0 };
        let fourth = m4.over(n).ratio(&var.square());
        let scale = oracle.absolute_third_moment().max(skewness.abs());
        for (name, got, exact, bound) in [
            ("skewness", summary.skewness(), skewness, 1e-6 * scale),
            ("kurtosis", summary.kurtosis(), fourth - 3.0, 1e-6 * fourth),
        ] {
            let got = got.unwrap_or(f64::NAN);
            broken.unless((got - exact).abs() <= bound, || {
                format!("{name}: got {got:e}, exact {exact:e}, allowed {bound:e}")
            });
        }
    }
}
