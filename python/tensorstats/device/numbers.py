"""Numbers of devices that are no rows (losses, counts) and travel with a step's rows; knows not what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from tensorstats.device import fixed_point
from tensorstats.device.arena import Arena, Batch

__all__ = ["Numbers"]


class Numbers:
    """Small tensors, put into the arenas of their devices; `read` gives their elements in order, as floats.

    They are read after the copy was launched, not before.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], arena_of: Callable[[torch.device], Arena]) -> None:
        self._lengths = [tensor.numel() for tensor in tensors]
        self._parts: list[tuple[list[int], bool, int, Batch]] = []  # places, whether float64, where in which batch
        devices: dict[torch.device, list[int]] = {}
        for place, tensor in enumerate(tensors):
            devices.setdefault(tensor.device, []).append(place)
        for device, places in devices.items():
            wide = fixed_point.has_float64(device)
            with torch.no_grad():
                dtype = torch.float64 if wide else torch.float32
                numbers = torch.cat([tensors[place].detach().reshape(-1).to(dtype) for place in places])
                bits = numbers.view(torch.int64) if wide else numbers.view(torch.int32).to(torch.int64)
                arena = arena_of(device)
                row = arena.put([bits], len(bits))
            self._parts.append((places, wide, int(row.storage_offset()), arena.batch))

    def read(self) -> list[float]:
        """The numbers, once their copy has arrived."""
        numbers: list[list[float]] = [[] for _ in self._lengths]
        for places, wide, start, batch in self._parts:
            for place in places:
                end = start + self._lengths[place]
                bits = batch.land()[start:end]
                values = bits.view(np.float64) if wide else bits.astype(np.int32).view(np.float32)
                numbers[place] = values.astype(np.float64).tolist()
                start = end
        return [number for of_one in numbers for number in of_one]
