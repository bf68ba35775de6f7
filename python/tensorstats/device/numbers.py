"""Single numbers of devices (losses) that travel with a step's rows; knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from tensorstats.device import fixed_point
from tensorstats.device.arena import Arena, Batch

__all__ = ["Numbers"]


class Numbers:
    """Tensors of one element, put into the arenas of their devices; `read` gives them in order, as floats.

    They are read after the copy was launched, not before.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], arena_of: Callable[[torch.device], Arena]) -> None:
        self._count = len(tensors)
        self._parts: list[tuple[list[int], bool, int, Batch]] = []  # places, whether float64, where in which batch
        devices: dict[torch.device, list[int]] = {}
        for place, tensor in enumerate(tensors):
            devices.setdefault(tensor.device, []).append(place)
        for device, places in devices.items():
            wide = fixed_point.has_float64(device)
            with torch.no_grad():
                dtype = torch.float64 if wide else torch.float32
                numbers = torch.stack([tensors[place].detach().reshape(()).to(dtype) for place in places])
                bits = numbers.view(torch.int64) if wide else numbers.view(torch.int32).to(torch.int64)
                arena = arena_of(device)
                row = arena.put([bits], len(places))
            self._parts.append((places, wide, int(row.storage_offset()), arena.batch))

    def read(self) -> list[float]:
        """The numbers, once their copy has arrived."""
        numbers = [0.0] * self._count
        for places, wide, start, batch in self._parts:
            bits = batch.land()[start : start + len(places)]
            values = bits.view(np.float64) if wide else bits.astype(np.int32).view(np.float32)
            for place, value in zip(places, values.tolist(), strict=True):
                numbers[place] = float(value)
        return numbers
