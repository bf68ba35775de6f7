"""Memory of a device that a step's rows are written into, and their one copy to the host; knows no row's meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Arena", "Batch"]

# Rows of a summary take 152 bytes: room for some 400 before the memory grows for the first time.
_FIRST_SIZE = 1 << 13


class Batch:
    """What is put into an arena between two copies to the host."""

    __slots__ = ("_event", "_host", "_rows")

    def __init__(self) -> None:
        self._rows: torch.Tensor | None = None
        self._event: torch.Event | None = None
        self._host: npt.NDArray[np.int64] | None = None

    @property
    def launched(self) -> bool:
        """Whether the copy has begun."""
        return self._rows is not None or self._host is not None

    def launch(self, rows: torch.Tensor, event: torch.Event | None) -> None:
        """The copy has begun, into `rows`; `event` says when it is done."""
        self._rows, self._event = rows, event

    def land(self) -> npt.NDArray[np.int64]:
        """Everything in the batch, on the host; waits for the copy if it has not arrived."""
        if self._host is None:
            assert self._rows is not None, "a batch is read after its copy was launched"
            if self._event is not None:
                self._event.synchronize()
            self._host = self._rows.numpy().copy()
            self._rows = self._event = None
        return self._host


class Arena:
    """Rows of 64-bit integers on one device, in memory kept from step to step.

    Rows are put one after the other; `launch` sends all of them to the host in one copy that nobody waits for. There
    are two buffers: what is put after a launch goes into the other one, so a step is read while the next is recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.batch = Batch()
        self._buffers = [_empty(_FIRST_SIZE, device) for _ in range(2)]
        self._hosts: list[torch.Tensor | None] = [None, None]
        self._launched: list[Batch | None] = [None, None]
        self._turn = 0
        self._used = 0

    def put(self, rows: Sequence[torch.Tensor], *shape: int) -> torch.Tensor:
        """Write rows of this shape one after the other; the result lies where they were written to."""
        size = len(rows)
        for length in shape:
            size *= length
        buffer = self._room(size)
        place = buffer[self._used : self._used + size].view(len(rows), *shape)
        self._used += size
        if rows:
            torch.stack(list(rows), out=place)
        return place

    def _room(self, size: int) -> torch.Tensor:
        buffer = self._buffers[self._turn]
        if self._used + size > buffer.numel():
            # Twice what is needed, so that a run grows it a few times and not at every step. Places handed out before
            # lie in the old memory; what counts is their offset, which is the same in the new one.
            grown = _empty(2 * (self._used + size), self.device)
            grown[: self._used].copy_(buffer[: self._used])
            self._buffers[self._turn] = buffer = grown
        return buffer

    def launch(self) -> None:
        """Start the copy of everything put since the last launch, and begin a new batch."""
        turn, used = self._turn, self._used
        source = self._buffers[turn][:used]
        earlier = self._launched[turn]
        if earlier is not None:
            earlier.land()  # of the launch before the last: it has long arrived
        batch, self.batch = self.batch, Batch()
        self._launched[turn] = batch
        self._turn, self._used = 1 - turn, 0
        if self.device.type == "cpu":
            batch.launch(source.clone(), None)
            return
        host = self._hosts[turn]
        if host is None or host.numel() < used:
            pinned = self.device.type in ("cuda", "xpu")
            size = max(used, source.untyped_storage().nbytes() // 8)
            self._hosts[turn] = host = _empty(size, torch.device("cpu"), pinned=pinned)
        host[:used].copy_(source, non_blocking=True)
        event = torch.Event(device=self.device)
        event.record()
        batch.launch(host[:used], event)


def _empty(size: int, device: torch.device, *, pinned: bool = False) -> torch.Tensor:
    """Memory that is kept: what is made in inference mode could not be written to outside of it."""
    with torch.inference_mode(False):
        return torch.empty(size, dtype=torch.int64, device=device, pin_memory=pinned)
