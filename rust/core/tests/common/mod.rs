//! Owns what the tests of the core share: the exact oracle, the data, the promises. Knows nothing of the kernels under test.

#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

pub(crate) mod data;
pub(crate) mod decode;
pub(crate) mod fraction;
pub(crate) mod oracle;
pub(crate) mod promises;

use proptest::prelude::ProptestConfig;
use tensorstats_core::kernel::Moments;
use tensorstats_core::parallel::scan::Options;
use tensorstats_core::{Level, Summary, TensorView};

/// Options with a level and a thread count of the test's choice.
pub(crate) fn options(level: Level, threads: usize) -> Options<'static> {
    Options { threads, level, interrupted: &|| false }
}

/// The summary of a view on one thread at the portable level.
pub(crate) fn portable(view: &TensorView<'_>, moments: Moments) -> Summary {
    Summary::of(view, moments, &options(Level::PORTABLE, 1))
}

/// One summary, after checking that every level gives the same bytes.
pub(crate) fn at_all_levels(view: &TensorView<'_>, moments: Moments) -> Result<Summary, String> {
    let summary = portable(view, moments);
    for &level in Level::available() {
        let other = Summary::of(view, moments, &options(level, 1));
        if other.to_bytes() != summary.to_bytes() {
            return Err(format!(
                "level {} differs from portable:\n{:?}\n{:?}",
                level.name(),
                other.stats,
                summary.stats
            ));
        }
    }
    Ok(summary)
}

/// Settings of a property: how many random cases, which `PROPTEST_CASES` overrides for all. Failures are printed, not written to files.
pub(crate) fn properties(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
