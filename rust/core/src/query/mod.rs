//! Questions about a tensor that keep no state: quantiles, ranges, verdicts. Knows nothing of Python.

pub mod quantile;
pub mod range;
pub mod verdict;
