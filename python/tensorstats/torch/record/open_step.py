"""What has happened since the last step ended, as far as it tells whether a step was left; reads no tensor."""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from types import FrameType

from torch import nn

from tensorstats.rules import Skips

__all__ = ["OpenStep", "SkipCount"]

# What a step usually takes is the most of so many steps before it; with fewer than `_KNOWN`, nothing is usual yet.
_REMEMBERED = 20
_KNOWN = 3
# A step that goes on for so many passes, and for so many times what is usual, is none: the optimizer does not step.
_RUNS_ON = 20
_RUNS_ON_TIMES = 10


class OpenStep:
    """The forward passes of the step that has not ended, and what a step of this loop usually takes.

    Gradient accumulation, a second network or a penalty call a model several times per step; multi-task methods and
    private training throw gradients away several times per step. Only what goes beyond a loop's usual tells that a step
    was left.
    """

    def __init__(self) -> None:
        self._forwards: Counter[int] = Counter()  # by the identity of the model
        self._inside: set[tuple[int, int]] = set()  # calls that have not returned: thread and model
        self._usual: deque[tuple[Counter[int], int]] = deque(maxlen=_REMEMBERED)
        self.lost = 0  # backward passes whose gradients were thrown away, as far as they may belong to this step

    def begin(self) -> None:
        """Forget the last step."""
        self._forwards = Counter()
        self._inside.clear()
        self.lost = 0

    def completed(self) -> None:
        """The step ended as it should."""
        self._usual.append((self._forwards, self.lost))

    # --- forward passes -----------------------------------------------------------------------------------------------

    @property
    def ran(self) -> bool:
        """Whether a model was called with gradients on."""
        return bool(self._forwards)

    def call_begins(self, model: nn.Module) -> None:
        """A model is called from Python."""
        self._inside.add((threading.get_ident(), id(model)))

    def call_returns(self, model: nn.Module) -> None:
        """It has returned, not raised."""
        self._inside.discard((threading.get_ident(), id(model)))

    def raised(self, model: nn.Module) -> bool:
        """Whether the last call of a model, which is called again, has ended with an error."""
        key = (threading.get_ident(), id(model))
        if key not in self._inside or _calls_on_the_stack(model) > 1:
            return False
        self._inside.discard(key)
        return True

    def count_forward(self, model: nn.Module) -> None:
        """A forward pass with gradients on begins."""
        self._forwards[id(model)] += 1

    def has_usual_forwards(self, model: nn.Module, *, known: bool) -> bool:
        """Whether this model was called as often as a step takes; before that is `known`, once may be enough."""
        if not self._usual and known:
            return False
        usual = max((forwards[id(model)] for forwards, _ in self._usual), default=1)
        return self._forwards[id(model)] >= max(usual, 1)

    # --- gradients thrown away ----------------------------------------------------------------------------------------

    @property
    def passes(self) -> int:
        """How often the models have run, or gradients were thrown away, in this step."""
        return max(sum(self._forwards.values()), self.lost + 1)

    def runs_on(self, *, final: bool) -> bool:
        """Whether gradients were thrown away so often that the step will not end; at the end of a run, passes count."""
        usual = max((max(sum(forwards.values()), lost) for forwards, lost in self._usual), default=0)
        now = self.passes if final else self.lost
        return now >= _RUNS_ON and now > _RUNS_ON_TIMES * usual

    def loses_unusually(self) -> bool:
        """Whether one more backward pass in vain is more than this loop usually has in a step."""
        return len(self._usual) >= _KNOWN and self.lost + 1 > max(lost for _, lost in self._usual)


def _calls_on_the_stack(model: nn.Module) -> int:
    """How many calls of a module are going on in this thread: a tree of modules may call itself."""
    frame: FrameType | None = sys._getframe(1)
    calls = 0
    while frame is not None:
        if frame.f_code.co_name == "_call_impl" and frame.f_locals.get("self") is model:
            calls += 1
        frame = frame.f_back
    return calls


class SkipCount:
    """How many steps of a run were skipped, and how many of the last ones."""

    def __init__(self) -> None:
        self.steps = 0
        self.skipped = 0
        self.by_scaler = 0
        self.first: int | None = None  # the number of the first skipped step
        self._recent: deque[int] = deque()  # places of the skipped ones among the last steps

    def ended(self) -> None:
        """A step ended as it should."""
        self.steps += 1

    def skip(self, number: int, *, by_scaler: bool) -> None:
        """A step was skipped."""
        if self.first is None:
            self.first = number
        self._recent.append(self.steps)
        self.steps += 1
        self.skipped += 1
        self.by_scaler += by_scaler

    def facts(self, *, final: bool = False) -> Skips | None:
        """What the rules see; None while nothing was skipped."""
        if self.first is None:
            return None
        begin = max(0, self.steps - Skips.WINDOW)
        while self._recent and self._recent[0] < begin:
            self._recent.popleft()
        return Skips(
            skipped=self.skipped,
            steps=self.steps,
            by_scaler=self.by_scaler,
            first_step=self.first,
            recent_skipped=len(self._recent),
            recent_steps=self.steps - begin,
            final=final,
        )
