"""Objects that export memory through DLPack and nothing else, like the arrays of a library of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


class Exporter:
    """An array library of its own: nothing but the protocol."""

    def __init__(self, array: np.ndarray | torch.Tensor) -> None:
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return tuple(map(int, self.array.__dlpack_device__()))  # type: ignore[return-value]


class OldExporter(Exporter):
    """An exporter from before the versioned protocol."""

    def __dlpack__(self, *, stream: object = None) -> object:  # type: ignore[override]
        assert stream is None
        return self.array.__dlpack__()
