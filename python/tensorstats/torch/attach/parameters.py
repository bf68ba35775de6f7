"""The parameters of the watched modules by name, looked up again only when the model has changed; reads no values."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import is_

from torch import nn

from tensorstats.torch.attach.compiled import clean_name

__all__ = ["WatchedParameters"]


class WatchedParameters:
    """Finds parameters under their first name; lazy ones, which have no values yet, are left out.

    Walking a model with all its names takes as long as counting it. Whether any module has other parameters or children
    than at the last walk is told faster.

    Parameters
    ----------
    root
        What names are relative to.
    modules
        Whose parameters are meant; None for all.
    """

    def __init__(self, root: nn.Module, modules: Collection[nn.Module] | None) -> None:
        self._root = root
        self._modules = modules
        self._found: dict[str, nn.Parameter] = {}
        self._structure: list[tuple[nn.Module, tuple[object, ...], tuple[object, ...]]] = []

    def now(self) -> dict[str, nn.Parameter]:
        """The parameters by name: the same dict as last time while the model is the same."""
        if not self._structure or not all(
            _same(module._parameters.values(), parameters) and _same(module._modules.values(), children)
            for module, parameters, children in self._structure
        ):
            self._walk()
        return self._found

    @property
    def borrows(self) -> bool:
        """Whether some parameter is, for now, a tensor that is none."""
        return any(
            parameter is not None and not isinstance(parameter, nn.Parameter)
            for module, _, _ in self._structure
            for parameter in module._parameters.values()
        )

    def forget(self) -> None:
        """Let go of all parameters."""
        self._found, self._structure = {}, []

    def _walk(self) -> None:
        chosen = None
        if self._modules is not None:
            chosen = {id(parameter) for module in self._modules for parameter in module.parameters()}
        named = [(clean_name(name), parameter) for name, parameter in self._root.named_parameters()]
        self._found = {
            name: parameter
            for name, parameter in named
            if (chosen is None or id(parameter) in chosen) and not nn.parameter.is_lazy(parameter)
        }
        self._structure = [
            (module, tuple(module._parameters.values()), tuple(module._modules.values()))
            for module in self._root.modules()
        ]
        if any(nn.parameter.is_lazy(parameter) for _, parameter in named):
            self._structure = []  # they become ordinary ones in place


def _same(now: Collection[object], before: tuple[object, ...]) -> bool:
    """Whether both hold the same objects in the same order; parameters have no other equality that says yes or no."""
    both: Iterable[bool] = map(is_, now, before)
    return len(now) == len(before) and all(both)
