"""Follows the unit activity of tensors from step to step, and what one step adds to it; counts no tensor itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from tensorstats._core import UnitActivity
from tensorstats.torch.attach.modules import activation_kind, saturation_bounds, unit_dimension

__all__ = ["UnitTrack", "UnitTracks", "Units", "units_kept"]

_NAN = float("nan")

Units: TypeAlias = Literal["activations", "all", "none"]


def units_kept(signal: str, units: Units) -> Units:
    """Of which tensors of a signal the activity of units is kept, where `units` was asked for.

    An activation is judged by what it returns; what goes into it is asked for by "all", gradients have no units.
    """
    return units if signal == "outputs" or (signal == "inputs" and units == "all") else "none"


@dataclass(slots=True)
class UnitTrack:
    """Unit activity of one tensor over all recorded steps, and what it was before the current one."""

    total: UnitActivity
    updates_before: int = 0
    values_before: int = 0
    saturated_before: int = 0
    part: UnitActivity | None = None  # this step's, apart from the total until the step is closed

    def begin(self) -> None:
        """Remember where the step starts."""
        self.updates_before = self.total.updates
        if self.total.saturation is not None:
            self.values_before = int(np.sum(self.total.count))
            self.saturated_before = self._saturated()

    def _saturated(self) -> int:
        return int(np.sum(self.total.low_count)) + int(np.sum(self.total.high_count))

    def dead_fraction(self) -> float:
        """Share of units that were not active in this step."""
        updates = self.total.updates - self.updates_before
        if self.total.units == 0 or updates == 0:
            return _NAN
        return len(self.total.inactive_units(updates)) / self.total.units

    def saturated_fraction(self) -> float:
        """Share of this step's values beyond the bounds; NaN for activations without bounds."""
        if self.total.saturation is None:
            return _NAN
        values = int(np.sum(self.total.count)) - self.values_before
        return _NAN if values == 0 else (self._saturated() - self.saturated_before) / values


class UnitTracks:
    """The tracks of all tensors of one signal, by name, over all recorded steps."""

    def __init__(self) -> None:
        self._tracks: dict[str, UnitTrack | None] = {}
        self.forgotten: list[str] = []  # tensors that had units before

    def begin(
        self, path: str, module: nn.Module, tensor: torch.Tensor, layout: str | None, *, apart: bool
    ) -> UnitTrack | None:
        """The track of a tensor that comes for the first time in a step; None for tensors without units.

        What is counted `apart` is not in the total before `take`.
        """
        if path not in self._tracks:
            dim = unit_dimension(module, tensor, layout) if tensor.is_floating_point() else None
            bounds = saturation_bounds(activation_kind(module))
            self._tracks[path] = None if dim is None else UnitTrack(UnitActivity(dim, saturation=bounds))
        track = self._tracks[path]
        if track is None:
            return None
        if apart:
            total = track.total
            return UnitTrack(total, part=UnitActivity(total.dim, saturation=total.saturation))
        track.begin()
        return track

    def take(self, path: str, state: UnitActivity) -> UnitTrack | None:
        """Add the units of one step, of this rank or of all, to those of the steps before."""
        known = self._tracks.setdefault(path, UnitTrack(UnitActivity(state.dim, saturation=state.saturation)))
        if known is None:
            return None
        track = UnitTrack(known.total)
        track.begin()
        try:
            track.total.merge(state)
        except ValueError:
            self.forget(path)
            return None
        return track

    def forget(self, path: str) -> None:
        """The number of units changes from call to call (a sequence length, say): they are no units."""
        self._tracks[path] = None
        self.forgotten.append(path)
