//! Owns the counting of one tensor: whole, or what a mask chooses of it. Knows nothing of how values are counted.

use crate::error::{Error, Result};
use crate::memory::view::TensorView;
use crate::parallel::scan::Options;
use crate::units::count::Room;
use crate::units::plan::Plan;
use crate::units::{Unit, UnitActivity, check_units, check_units_memory, masked};
use crate::with_element;

impl UnitActivity {
    /// Of one tensor.
    pub fn of(view: &TensorView<'_>, dim: i64, saturation: Option<(f64, f64)>, options: &Options<'_>) -> Result<Self> {
        let mut activity = Self::new(dim, saturation)?;
        let ndim = view.shape().len();
        let place = if dim < 0 { dim + ndim as i64 } else { dim };
        let place = usize::try_from(place).ok().filter(|&d| d < ndim).ok_or(Error::Dim { dim, ndim })?;
        check_units(view.shape()[place])?;
        // The units themselves, while they grow, and those of the tasks that wait for their turn.
        check_units_memory(view.shape()[place] as u64, 4)?;
        activity.units = scan(view, place, saturation, options);
        activity.updates = 1;
        for unit in &mut activity.units {
            unit.last_active = u64::from(unit.active > 0);
        }
        Ok(activity)
    }
}

/// Counts every unit along dimension `dim`.
fn scan(view: &TensorView<'_>, dim: usize, saturation: Option<(f64, f64)>, options: &Options<'_>) -> Vec<Unit> {
    let level = options.level;
    if let Some(selection) = view.selection() {
        return masked::scan(view, selection, dim, saturation, options);
    }
    with_element!(view.dtype(), E => {
        let plan = Plan::new(view, dim);
        plan.run(options, |room: &mut Room<E>, first_unit, units, items| {
            // SAFETY: the plan is made from the view, whose elements are of type `E`; units and items are those of the plan.
            unsafe { plan.task(level, room, first_unit, units, items, saturation) }
        })
    })
}
