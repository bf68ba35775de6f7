"""What was counted of the tensors that modules take and return, and of their gradients, in one step; counts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tensorstats.rules import OutputView
from tensorstats.run.step import SignalStep
from tensorstats.torch.record.collect import CollectedSignal, Place, TensorStep
from tensorstats.torch.record.offender import StepOffenders
from tensorstats.torch.record.recorder import Counted, Told

__all__ = ["CountedOutputs"]


class CountedOutputs(Counted):
    """The tensors of modules in one step.

    Parameters
    ----------
    collected
        By signal.
    place_of
        The watched module of a name; None where this rank has no such part of the model.

    Attributes
    ----------
    offenders : StepOffenders
    ran : bool
        Whether any watched module was called.
    """

    def __init__(
        self, collected: Mapping[str, CollectedSignal], place_of: Callable[[str], Place | None] = lambda _: None
    ) -> None:
        self._collected = collected
        self._place_of = place_of
        self.signals = tuple(collected)
        self.offenders = StepOffenders()
        self.ran = False

    @property
    def outputs(self) -> list[TensorStep]:
        """What the modules returned, in the order of execution."""
        collected = self._collected.get("outputs")
        return [] if collected is None else list(collected.tensors.values())

    def settle(self) -> None:
        """Take in the histograms that were counted on devices."""
        for collected in self._collected.values():
            collected.settle()

    def settle_units(self) -> None:
        """Add the units of the step to the totals, where they were kept apart from them."""
        for collected in self._collected.values():
            collected.settle_units()

    def told(self) -> Iterable[Told]:
        """What was counted, for other ranks."""
        for signal, collected in self._collected.items():
            for path, tensor in collected.tensors.items():
                if tensor.counted:  # else nobody can count it
                    units = None if tensor.units is None else tensor.units.part
                    about = (tensor.place.name, str(tensor.call))
                    yield Told(signal, path, tensor.summary, units=units, about=about)

    def put(self, signal: str, name: str, kind: str, state: object, about: tuple[str, ...]) -> None:
        """Replace what was counted of a tensor on this rank by what all ranks have together."""
        module, call = about
        place, collected = self._place_of(module), self._collected[signal]
        if name not in collected.tensors:
            if place is None or state is None:
                return  # of a part of the model that this rank does not have, or each has its own and this one none
            collected.tensors[name] = TensorStep(name, place, int(call))
        collected.put(name, kind, state)

    def drop(self, is_dropped: Callable[[tuple[str, str]], bool]) -> None:
        """Forget the tensors for whose signal and name this is true."""
        for signal, collected in self._collected.items():
            collected.drop({path for path in collected.tensors if is_dropped((signal, path))})

    def rows(self) -> dict[str, SignalStep]:
        """What was counted, as plain data; after `settle_units`."""
        found = {signal: collected.rows() for signal, collected in self._collected.items()}
        return {signal: rows for signal, rows in found.items() if rows is not None}

    # --- for the rules ------------------------------------------------------------------------------------------------

    def modules_in_order(self) -> dict[str, int]:
        """The place of every module that ran in this step."""
        order: dict[str, int] = {}
        for step in self.outputs:
            order.setdefault(step.place.name, len(order))
        return order

    def views(self) -> list[OutputView]:
        """What the rules see of the step."""
        steps = self.outputs
        last_with_parameters = max((i for i, step in enumerate(steps) if step.place.has_parameters), default=-1)
        return [
            OutputView(
                name=step.name,
                module=step.place.name,
                module_type=step.place.module_type,
                kind=step.place.kind,
                summary=summary,
                units=None if step.units is None else step.units.total,
                updates_before=0 if step.units is None else step.units.updates_before,
                saturated_fraction=step.saturated_fraction(),
                is_last=i > last_with_parameters,
                masked=step.masked,
            )
            for i, step in enumerate(steps)
            if (summary := step.summary) is not None
        ]
