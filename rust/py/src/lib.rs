//! The native module `tensorstats._core`: the list of what Python sees. Glue only; every number comes from `tensorstats-core`.

mod arrays;
mod axis;
mod buffer;
mod buffers;
mod codes;
mod dicts;
mod dims;
mod dlpack;
mod errors;
mod formats;
mod fused;
mod histogram;
mod histogram_dict;
mod many;
mod package;
mod quantile;
mod range;
mod rows;
mod run;
mod settings;
mod slot;
mod state;
mod summary;
mod summary_dict;
mod summary_repr;
mod torch;
mod units;
mod units_dict;
mod update;

/// Statistics over host memory.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::axis::{PyAxis, PyLinear, PyLogLinear, PyRegular, PyVariable};
    #[pymodule_export]
    use crate::buffer::PyHeld;
    #[pymodule_export]
    use crate::formats::format_limits;
    #[pymodule_export]
    use crate::fused::{summaries_and_histograms, summary_and_histogram};
    #[pymodule_export]
    use crate::histogram::{PyHistogram, histogram};
    #[pymodule_export]
    use crate::many::{PySummaries, norm, norm_from, norms, summaries, summaries_from};
    #[pymodule_export]
    use crate::package::connect;
    #[pymodule_export]
    use crate::quantile::quantile;
    #[pymodule_export]
    use crate::range::{all_hold, first_nonfinite, outside};
    #[pymodule_export]
    use crate::settings::{
        set_simd_level, set_thread_count, simd_level, simd_levels, thread_count, use_openmp, uses_openmp,
    };
    #[pymodule_export]
    use crate::slot::{PySeenTensors, PyTensorSlot, are_ordinary, summaries_of_slots};
    #[pymodule_export]
    use crate::summary::{PySummary, summary, summary_where};
    #[pymodule_export]
    use crate::units::{PyUnitActivity, unit_activity};
    #[pymodule_export]
    use crate::update::PySnapshots;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("build_profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
        crate::settings::from_environment()
    }
}
