"""What one monitor watches: models, their modules and parameters by name, and signals; hooks and counts nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from tensorstats.run.choosing import Collection
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.modules import ModuleChoice, choose_modules, scripted_parts
from tensorstats.torch.attach.parameters import WatchedParameters
from tensorstats.torch.attach.sharded import is_distributed
from tensorstats.torch.attach.targets import Targets, parameters_of

__all__ = ["WatchedModels"]


class WatchedModels:
    """Models as they are now: a module may be replaced during a run, a parameter replaced, frozen or thawed.

    Parameters
    ----------
    on_changed
        Called with the names of modules that others have taken the place of, after they were looked up again.

    Attributes
    ----------
    modules : dict
        The watched modules by name.
    module_types : dict
        The class name of every module that was ever watched.
    clock : torch.nn.Module
        Whose calls are steps where there is no optimizer.
    """

    def __init__(
        self,
        targets: Targets,
        choice: ModuleChoice,
        signals: frozenset[str],
        collections: tuple[Collection, ...] | None,
        guard: Guard,
    ) -> None:
        self.targets = targets
        self.choice = choice
        self.signals = signals
        self.collections = collections
        self.modules = self._choose()
        self.module_types = {name: type(module).__name__ for name, module in self.modules.items()}
        self.clock = next(iter(targets.models.values()))
        self.on_changed: Callable[[list[str]], None] = lambda _: None
        self.keeps_modules: Callable[[], bool] = lambda: False  # compiled code knows those that there were
        self._finder = WatchedParameters(targets.root, None if choice is None else self.modules.values())
        self._found: dict[str, nn.Parameter] = {}
        self._found_now = False  # since the step began
        if scripted := scripted_parts(targets.root):
            what = "scripted and traced code takes no hooks: what its modules return is left out"
            guard.remark(f"the outputs of {', '.join(scripted)}", what)

    def _choose(self) -> dict[str, nn.Module]:
        return choose_modules(self.targets.root, self.choice, several="" not in self.targets.models)

    def chooses(self, signal: str, name: str, _module: nn.Module | None = None) -> bool:
        """Whether a tensor is in one of the chosen collections."""
        chosen = self.collections
        return chosen is None or any(collection.takes(signal, name) for collection in chosen)

    def step_begins(self) -> None:
        """Look parameters up again when they are asked for next."""
        self._found_now = False

    def parameters(self) -> dict[str, nn.Parameter]:
        """Parameters of the watched modules under their first name, as they were when the step began."""
        if not self._found_now:
            before = self._found
            self._found, self._found_now = self._finder.now(), True
            if before and self._found is not before:
                self._follow_modules()
        return self._found

    def changed_parameters(self) -> dict[str, nn.Parameter] | None:
        """Those of now, where some were replaced since the step began; None where they are the same."""
        found = self._finder.now()
        # FSDP puts whole parameters in the place of its shards for as long as the model runs.
        if found is self._found or self._is_distributed():
            return None
        self._found = found
        self._follow_modules()
        return found

    @property
    def borrows(self) -> bool:
        """Whether torch.func.functional_call lends the model other weights for this one call."""
        return self._finder.borrows

    def _is_distributed(self) -> bool:
        return any(map(is_distributed, self._found.values()))

    def _follow_modules(self) -> None:
        """The model has other parts than it had: watch them too, and let go of those that it lost."""
        if self.keeps_modules() or self._is_distributed():
            return
        now = self._choose()
        changed = [name for name, module in now.items() if self.modules.get(name) is not module]
        if not changed and len(now) == len(self.modules):
            return
        self.modules = now
        self.module_types.update({name: type(now[name]).__name__ for name in changed})
        self.on_changed(changed)

    def parameters_in(self, optimizer: Any) -> set[str]:
        """The names of the watched parameters that an optimizer updates."""
        held = parameters_of(optimizer)
        return {name for name, parameter in self.parameters().items() if id(parameter) in held}

    def forget_parameters(self) -> None:
        """Let go of all parameters."""
        self._found, self._found_now = {}, False
        self._finder.forget()
