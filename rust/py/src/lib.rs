//! The native module `tensorstats._core`: the list of what Python sees. Glue only; every number comes from `tensorstats-core`.

// Who may use whom: {errors, package, tables} <- {arrays, memory} <- run <- {settings, states <- calls}. tests/test_binding.py keeps it.
mod arrays;
mod calls;
mod errors;
mod memory;
mod package;
mod run;
mod settings;
mod states;
mod tables;

/// Statistics over host memory.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::calls::device::{summary_of_rows, units_of_rows};
    #[pymodule_export]
    use crate::calls::fused::{summaries_and_histograms, summary_and_histogram};
    #[pymodule_export]
    use crate::calls::many::{PySummaries, norm, norms, summaries, summaries_from};
    #[pymodule_export]
    use crate::calls::quantile::quantile;
    #[pymodule_export]
    use crate::calls::range::{all_hold, first_nonfinite, outside};
    #[pymodule_export]
    use crate::calls::slot::{PySeenTensors, PyTensorSlot, are_ordinary, summaries_of_slots};
    #[pymodule_export]
    use crate::calls::update::PySnapshots;
    #[pymodule_export]
    use crate::memory::buffer::PyHeld;
    #[pymodule_export]
    use crate::package::connect;
    #[pymodule_export]
    use crate::settings::{
        set_simd_level, set_thread_count, simd_level, simd_levels, thread_count, use_openmp, uses_openmp,
    };
    #[pymodule_export]
    use crate::states::axis::{PyAxis, PyLinear, PyLogLinear, PyRegular, PyVariable};
    #[pymodule_export]
    use crate::states::formats::format_limits;
    #[pymodule_export]
    use crate::states::histogram::{PyHistogram, histogram};
    #[pymodule_export]
    use crate::states::summary::{PySummary, summary, summary_where};
    #[pymodule_export]
    use crate::states::units::{PyUnitActivity, unit_activity};
    #[pymodule_export]
    use crate::tables::{PyDtype, PyField};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("build_profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
        crate::tables::add(module)?;
        crate::settings::from_environment()
    }
}
