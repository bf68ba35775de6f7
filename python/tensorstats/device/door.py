"""The door to other devices: what the native module calls for torch tensors that it cannot read; knows no step.

Which those are is decided there alone (it asks `tensorstats._arrays.export`), and this module is imported when the
first one comes. Arguments were checked by then, and results are of the same types as for memory of the host. What
functions named `start_...` begin is brought to the host by `finish`, all together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from tensorstats.device import quantile as quantiles
from tensorstats.device import results
from tensorstats.device.host import Pending, resolve
from tensorstats.device.range import Bound, Found, Report, start_range

if TYPE_CHECKING:
    from tensorstats._core import Histogram, Summary, UnitActivity
    from tensorstats.axis import Axis

__all__ = [
    "finish",
    "first_nonfinite",
    "histogram",
    "quantile",
    "start_outside",
    "start_summary",
    "start_verdict",
    "summary",
    "unit_activity",
]

S = TypeVar("S")
T = TypeVar("T")


def summary(x: Any, moments: int, where: Any, formats: Sequence[str], scale: float) -> Summary:
    """The summary of a tensor, of what a mask chooses of it where there is one."""
    return results.summary(_beside(x, where), moments=moments, where=where, formats=formats, scale=scale)


def histogram(x: Any, axis: Axis, where: Any) -> Histogram:
    """The histogram of a tensor, of what a mask chooses of it where there is one."""
    return results.histogram(_beside(x, where), axis, where=where)


def unit_activity(x: Any, dim: int, saturation: tuple[float, float] | None, where: Any) -> UnitActivity:
    """The activity of a tensor's units, of what a mask chooses of it where there is one."""
    return results.unit_activity(_beside(x, where), dim, saturation=saturation, where=where)


def quantile(x: torch.Tensor, shares: Sequence[float]) -> list[float]:
    """One quantile for each share."""
    return [float(value) for value in quantiles.quantile(_plain(x), shares)]


def first_nonfinite(x: torch.Tensor) -> Found | None:
    """Position in C order, index and value of the first value that is NaN or infinite."""
    (report,) = resolve([start_outside(x, None, None, False)])
    return report[3][0]


def start_summary(x: torch.Tensor, moments: int) -> Pending[Summary]:
    """Begin the summary of one tensor of many."""
    return _Begun(results.start_summary(_plain(x), moments=moments), lambda found: found[0])


def start_outside(x: torch.Tensor, low: Bound | None, high: Bound | None, allowed: bool) -> Pending[Report]:
    """Begin the counts of what is not finite or out of range in one tensor of many, as `_core.outside` gives them."""
    return start_range(_plain(x), low, high, allowed=allowed)


def start_verdict(x: torch.Tensor, bounds: tuple[Bound, Bound] | None) -> Pending[bool]:
    """Begin the question whether all values of one tensor of many are finite, or lie between two bounds."""
    low, high = bounds or (None, None)
    begun = start_range(_plain(x), low, high, allowed=bounds is not None)
    return _Begun(begun, _is_finite if bounds is None else _is_within)


def _is_finite(report: Report) -> bool:
    nan, posinf, neginf, _, _ = report[2]
    return nan + posinf + neginf == 0


def _is_within(report: Report) -> bool:
    nan, _, _, below, above = report[2]
    return nan + below + above == 0


def finish(pending: Sequence[Pending[Any]]) -> list[Any]:
    """What was begun, in order, by one copy to the host from each device."""
    return resolve(pending)


class _Begun(Generic[S, T]):
    """What was begun, and what is answered of its result."""

    def __init__(self, begun: Pending[S], answer: Callable[[S], T]) -> None:
        self.rows, self.batch = begun.rows, begun.batch
        self._begun, self._answer = begun, answer

    def finish(self, rows: bytes, /) -> T:
        """The answer, from the rows on the host."""
        return self._answer(self._begun.finish(rows))


def _plain(x: torch.Tensor) -> torch.Tensor:
    """A tensor without its graph, and without the lazy negation that views of conjugated tensors carry."""
    return x.detach().resolve_neg()


def _beside(x: Any, where: Any) -> torch.Tensor:
    """The tensor of a mask, either of which may be the one that lies elsewhere."""
    if isinstance(x, torch.Tensor):
        return _plain(x)
    raise TypeError(
        f"where must be in the host's memory, as the tensor is; got a mask on device: {where.device}; "
        "hint: where=mask.cpu()"
    )
