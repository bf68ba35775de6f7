"""Exchanges a recorded step with the monitors of the other ranks when it is closed; merges and counts nothing itself.

An exchange needs every rank at the same point of its loop. Whether steps are closed where they end or one step later is
therefore decided by all ranks together, at their first exchange, and nothing that one rank does alone (reading, above
all) closes a step. A rank that has nothing to say of a step says so, for the others wait for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from torch import nn

from tensorstats.device.backend import Statistics
from tensorstats.rules import RankSpread
from tensorstats.torch.attach.guard import Guard
from tensorstats.torch.attach.watched import WatchedModels
from tensorstats.torch.ranks.board import Watched
from tensorstats.torch.ranks.exchange import Exchange, drop_shards
from tensorstats.torch.ranks.group import RankError, RankGroup
from tensorstats.torch.ranks.merge import Entry, Message, merge_ranks, pack, unpack
from tensorstats.torch.ranks.parts import Locator, Shards
from tensorstats.torch.record.offender import StepOffenders
from tensorstats.torch.record.recorders import Recorders
from tensorstats.torch.record.step import RecordedStep

__all__ = ["Ranks", "Reduction", "check_ranks"]

Ranks: TypeAlias = Literal["merge", "local"] | None

# Ranks that are at other steps at two exchanges in a row, and farther or less far apart each time, never agree.
_PATIENCE = 2


def check_ranks(ranks: object) -> None:
    """Refuse what says nothing about ranks.

    Raises
    ------
    ValueError
    """
    if ranks not in (None, "merge", "local"):
        raise ValueError(f"ranks must be 'merge', 'local' or None, got {ranks!r}")


class Reduction:
    """The connection of one monitor to those of the other ranks; does nothing where there are none."""

    def __init__(
        self, ranks: Ranks, statistics: Statistics, guard: Guard, watched: WatchedModels, recorders: Recorders
    ) -> None:
        check_ranks(ranks)
        self._guard = guard
        self._watched = watched
        self._recorders = recorders
        self._group = None if ranks == "local" else RankGroup.of_world(_watched_by(watched))
        if ranks == "merge" and self._group is None:
            raise ValueError("ranks='merge' needs torch.distributed to be initialised with two ranks or more")
        self._locator = Locator(guard, watched.targets.root, watched.parameters())
        self._exchange = Exchange(statistics, guard, watched, self._locator)
        self.waits = False  # some rank counts on a device: steps are closed one step after their end, on all ranks
        self._told: int | None = None  # the step that this rank has told the others of
        self._lags: dict[int, int] = {}  # by how many steps each rank is ahead of the first
        self._disagreed = 0  # exchanges in a row at which these had changed
        self._shards: dict[int, Shards] = {}  # of the steps that are not closed
        self.latest: dict[tuple[str, str], list[Any]] = {}
        self.spreads: list[RankSpread] = []
        self._set_up(active=self._group is not None)

    @property
    def active(self) -> bool:
        """Whether numbers are those of all ranks."""
        return self._group is not None

    @property
    def rank(self) -> int:
        """That of this process."""
        return 0 if self._group is None else self._group.rank

    def _set_up(self, *, active: bool) -> None:
        """Have the recorders count shards, while ranks are merged."""
        for recorder in self._recorders.all:
            recorder.locate = self._locator.locate if active else None

    def hooks(self, module: nn.Module) -> list[Any]:
        """The handles of what has to be seen of a module beside what it returns."""
        return self._locator.regions.hooks(module) if self.active else []

    def step_ends(self, number: int) -> None:
        """Remember what the tensors of the step are parts of, until it is closed."""
        self._shards = {earlier: of_step for earlier, of_step in self._shards.items() if earlier + 1 >= number}
        self._shards[number] = self._locator.take()

    def model_called(self, model: nn.Module) -> None:
        """A model runs."""
        if self.active:
            self._locator.model_called(model)

    # --- the end of a step --------------------------------------------------------------------------------------------

    def reduce(self, step: RecordedStep) -> None:
        """Exchange the step with the other ranks; on failure go on with the numbers of this rank, and say so."""
        group = self._group
        if group is None:
            return
        self.latest, self.spreads = {}, []
        try:
            message = pack(step.number, self._exchange.entries(step, self._shards_of(step), group.rank))
        except Exception as error:
            self.miss(step.number, error)
            raise
        if not group.connected:
            parameters = [of_step.parameter for of_step in step.parameters.steps.values()]
            self._meet(group, self._locator.holdings.ranks(parameters, group.size))
        messages = self._gather(step.number, message)
        if messages is None or not self._agree(messages):
            drop_shards(step, self._shards_of(step))
            return
        merged = merge_ranks(messages, group.size)
        self.waits = self.waits or any(signal == "waits" for signal, _, _ in merged)
        self.latest = {(signal, name): r.ranks for (signal, name, kind), r in merged.items() if kind == "summary"}
        telling = [rank for rank, said in messages.items() if not any(e.signal == "missed" for e in said.entries)]
        self.spreads = self._exchange.apply(step, self._shards_of(step), merged, telling)

    def miss(self, number: int, error: Exception) -> None:
        """The step cannot be recorded on this rank: tell the others, who wait for it."""
        if self._group is not None and self._group.connected and self._told != number:
            reason = f"{type(error).__name__}: {error}"
            self._gather(number, pack(number, [_missed(self._group.rank, reason)]))

    def _meet(self, group: RankGroup, ranks: list[int]) -> None:
        try:
            missing = group.meet(ranks)
        except RankError as error:
            self.leave(str(error))
            return
        if missing:
            listed = ", ".join(map(str, group.ranks))
            self._guard.note("the other ranks", f"{missing}; numbers are of ranks {listed}")

    def _gather(self, number: int, message: bytes) -> dict[int, Message] | None:
        """The messages of all ranks; None where this one has to go on alone."""
        group = self._group
        if group is None:
            return None
        before = group.ranks
        self._told = number
        try:
            gathered = group.gather(message)  # may change who takes part
            messages = _unpacked(dict(zip(group.ranks, gathered, strict=True)))
        except RankError as error:
            self.leave(str(error))
            return None
        if group.ranks != before:
            listed = ", ".join(map(str, group.ranks))
            self._guard.note("the other ranks", f"{group.reason}; from step {number} on, numbers are of ranks {listed}")
        for rank, said in messages.items():
            for entry in said.entries:
                if entry.signal == "missed" and rank != group.rank:
                    self._guard.note(
                        f"step {number} on rank {rank}",
                        f"{entry.about[0]}; numbers of this step are of the other ranks",
                    )
        return messages

    def _agree(self, messages: Mapping[int, Message]) -> bool:
        """Whether the ranks tell of the same step: of the same number, or as far apart as before."""
        group = self._group
        assert group is not None
        steps = {rank: message.step for rank, message in messages.items()}
        first = min(steps)
        lags = {rank: step - steps[first] for rank, step in steps.items()}
        known = {rank: self._lags.get(rank, 0) - self._lags.get(first, 0) for rank in lags}
        self._lags = lags
        if lags == known:
            self._disagreed = 0
            return True
        self._disagreed += 1
        listed = ", ".join(f"rank {rank}: {step}" for rank, step in steps.items())
        if self._disagreed >= _PATIENCE:
            self.leave(f"ranks must record the same steps, got {listed}")
        else:
            self._guard.note(
                "the steps of the other ranks",
                f"they are at other steps than before ({listed}); numbers of this one are of this rank alone",
            )
        return False

    def leave(self, reason: str) -> None:
        """Go on alone, and say why."""
        if self._group is None:
            return
        consequence = "from here on, numbers are of this rank alone, and sharded tensors are left out"
        self._guard.note("the other ranks", f"{reason}; {consequence}")
        self.close(reason)
        self.latest, self.spreads = {}, []
        self._set_up(active=False)

    def part(self, number: int, offenders: StepOffenders | None) -> None:
        """Take part no longer, perhaps in the middle of a step: hear what went wrong in it on ranks that leave it too.

        A loop that skips every step never comes to an exchange, and the NaN may be on another rank.
        """
        group = self._group
        if group is not None and offenders is not None:
            with contextlib.suppress(RankError):
                words = [*self._exchange.of_offenders(offenders, group.rank), _left_open(group.rank)]
                parameters = self._watched.parameters().values()
                said = group.say_farewell(pack(number, words), self._locator.holdings.ranks(parameters, group.size))
                self._exchange.apply_offenders(offenders, merge_ranks(_unpacked(said), group.size))
        self.close()

    def close(self, reason: str = "its watcher was closed") -> None:
        """Take part no longer; the others go on without this rank."""
        group, self._group = self._group, None
        if group is not None:
            group.leave(reason)

    def drop_shards(self, step: RecordedStep) -> None:
        """Without the other ranks, what this rank holds of a sharded tensor does not count."""
        if self._group is None:
            drop_shards(step, self._shards_of(step))

    def _shards_of(self, step: RecordedStep) -> Shards:
        return self._shards.get(step.number, Shards())


def _missed(rank: int, reason: str) -> Entry:
    return Entry("missed", str(rank), None, "news", about=(reason,))


def _left_open(rank: int) -> Entry:
    return _missed(rank, "its watcher was closed in the middle of the step")


def _unpacked(messages: Mapping[int, bytes]) -> dict[int, Message]:
    return {rank: unpack(message) for rank, message in messages.items()}


def _watched_by(watched: WatchedModels) -> Watched:
    """What a monitor watches: parameters by name and shape, and the modules of a model that has none."""
    parameters = watched.parameters()
    shapes = []
    for name, parameter in parameters.items():
        try:
            shapes.append(f"{name} {tuple(parameter.shape)}")
        except RuntimeError:
            shapes.append(name)  # a lazy one has no shape yet
    return Watched.of(parameters or watched.modules, shapes)
