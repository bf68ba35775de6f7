"""Brings rows that were counted on devices to the host, in one copy per device; knows no row's meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch

from tensorstats.device.arena import Batch

__all__ = ["Pending", "resolve"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """What was begun on a device: its rows of 64-bit integers, and how they become a result."""

    @property
    def rows(self) -> torch.Tensor:
        """The rows, on the device."""

    @property
    def batch(self) -> Batch | None:
        """Of the arena that holds the rows; None where they have memory of their own."""

    def finish(self, rows: bytes, /) -> T_co:
        """The result, from the rows on the host."""


def resolve(pending: Sequence[Pending[T]]) -> list[T]:
    """The results of what was begun, in order.

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
