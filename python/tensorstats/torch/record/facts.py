"""Looks at what modules are set to when a recorded step ends, and at weights with alike units; counts nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from tensorstats.rules import ModuleView
from tensorstats.torch.attach.sharded import is_distributed
from tensorstats.torch.record.counted_parameters import ParameterStep

__all__ = ["ModuleFacts", "RowWatch"]

_DROPOUT = (nn.modules.dropout._DropoutNd, nn.AlphaDropout)


class ModuleFacts:
    """The modules that work differently in eval mode, from one recorded step to the next.

    Running statistics are compared with a copy of what they were, in host memory alone and until they first change.
    """

    def __init__(self) -> None:
        self._first: dict[str, list[torch.Tensor]] = {}
        self._moved: set[str] = set()

    def read(self, modules: Mapping[str, nn.Module], ran: Collection[str]) -> list[ModuleView]:
        """What there is to know of them; `ran` are the modules that returned something in this step."""
        views = []
        for name, module in modules.items():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                views.append(self._of_norm(name, module, name in ran))
            elif isinstance(module, _DROPOUT):
                share = float(module.p)
                views.append(ModuleView(name, "dropout", module.training, name in ran, None, share, share > 0))
        return views

    def _of_norm(self, name: str, module: nn.modules.batchnorm._NormBase, ran: bool) -> ModuleView:
        momentum = module.momentum if isinstance(module.momentum, (int, float)) else None
        learns = module.track_running_stats and module.running_mean is not None
        still = self._is_still(name, module, momentum) if learns and ran and module.training else None
        return ModuleView(name, "normalisation", module.training, ran, still, momentum, learns)

    def _is_still(self, name: str, module: nn.modules.batchnorm._NormBase, momentum: float | None) -> bool | None:
        if name in self._moved:
            return False
        statistics = [each for each in (module.running_mean, module.running_var) if each is not None]
        if any(each.device.type != "cpu" or is_distributed(each) for each in statistics):
            return True if momentum == 0 else None  # to compare them would wait for the device
        first = self._first.get(name)
        if first is None or [each.shape for each in first] != [each.shape for each in statistics]:
            self._first[name] = [each.detach().clone() for each in statistics]
            return True if momentum == 0 else None  # nothing to compare them with yet
        if all(map(torch.equal, first, statistics)):
            return True
        self._moved.add(name)
        del self._first[name]
        return False


class RowWatch:
    """How far the rows of weights differ, of those whose rows began alike: a weight leaves where they no longer are."""

    def __init__(self) -> None:
        self._left: set[str] = set()

    def look(self, steps: Iterable[ParameterStep]) -> None:
        """Say it of each weight that is read where it lies."""
        for step in steps:
            if step.name in self._left:
                continue
            step.row_spread = _row_spread(step.parameter)
            if step.row_spread is None:
                self._left.add(step.name)


# Rows that differ by more than this share of their largest value are not alike.
_ALIKE = 1e-3


def _row_spread(weight: torch.Tensor) -> float | None:
    """The largest distance of a row from the first; None for rows that are not alike, or not to be had for nothing."""
    plain = weight.layout is torch.strided and weight.device.type == "cpu" and not is_distributed(weight)
    if not plain or weight.dim() < 2 or weight.shape[0] < 2 or not weight.numel() or not weight.is_floating_point():
        return None
    values = weight.detach()
    first = values[0]
    if not torch.allclose(first, values[1], rtol=2 * _ALIKE, atol=0.0):
        return None
    spread, size = float((values - first).abs().max()), float(first.abs().max())
    return spread if spread <= _ALIKE * size else None
