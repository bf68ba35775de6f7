"""Brings rows that were counted on devices to the host, in one copy per device; the core makes states of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tensorstats._core import Summary, UnitActivity
from tensorstats.device.kernels import PendingSummary
from tensorstats.device.units import PendingUnits

__all__ = ["resolve"]


def resolve(pending: Sequence[PendingSummary | PendingUnits]) -> list[tuple[Summary | UnitActivity, int | None]]:
    """The states of what was begun, in order, each with the row-major position of its first non-finite value if known.

    Rows in an arena are read from its batch, whose copy must have been launched.
    """
    hosts: dict[int, bytes] = {}
    devices: dict[torch.device, list[int]] = {}
    for place, item in enumerate(pending):
        if item.batch is None:
            devices.setdefault(item.rows.device, []).append(place)
        else:
            start = int(item.rows.storage_offset())
            hosts[place] = item.batch.land()[start : start + item.rows.numel()].tobytes()
    for places in devices.values():
        packed = torch.cat([pending[place].rows.reshape(-1) for place in places]).cpu().numpy()
        start = 0
        for place in places:
            end = start + pending[place].rows.numel()
            hosts[place] = packed[start:end].tobytes()
            start = end
    return [item.finish(hosts[place]) for place, item in enumerate(pending)]
