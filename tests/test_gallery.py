"""The gallery of programs: complete declarations, a split that nobody moved, programs that run from end to end."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
torch = pytest.importorskip("torch")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benches"))

from gallery import causes, score, table, worker  # noqa: E402
from gallery.program import PROGRAMS, Score  # noqa: E402
from gallery.split import half  # noqa: E402
from gallery.tools import Quiet, Told, Tool  # noqa: E402


def test_every_program_is_declared_whole():
    for name, program in PROGRAMS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert program.kind
        assert program.origin
        assert len(program.planted) > 10, name
        assert program.is_healthy != bool(program.causes), name
        for pattern in (*program.causes, program.place or ""):
            re.compile(pattern)


def test_the_counts_are_those_that_are_told():
    kinds = collections.Counter(program.kind for program in PROGRAMS.values())
    assert kinds["known"] == 25
    assert kinds["healthy"] >= 60
    assert kinds.total() - kinds["known"] - kinds["healthy"] >= 35


def test_the_split_is_the_parity_of_a_hash_and_stays():
    for name in PROGRAMS:
        whole = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        assert half(name) == ("kept" if whole % 2 else "tuning")
    assert [half(name) for name in ("rate-of-1e-8", "root-of-zero", "slow-sgd")] == ["tuning", "tuning", "kept"]


class Heard(Tool):
    """Notes what a program calls, in order."""

    name = "heard"

    def _preflight(self, model, batch, loss_fn, optimizer):
        inputs, targets = batch
        assert len(inputs["tokens"] if isinstance(inputs, dict) else inputs) == len(targets)
        assert callable(loss_fn)
        assert optimizer is not None
        self.told.append(Told("warn", "init", "0.weight", -1, "seen"))
        HEARD.append("preflight")

    @contextlib.contextmanager
    def watch(self, model, optimizer=None, *, loss_fn=None, **options):
        assert not options
        HEARD.append("watch" if loss_fn is None else "watch with a loss")
        yield Quiet()


HEARD: list[str] = []


@pytest.mark.parametrize(
    ("name", "watch"),
    [("slow-sgd", "watch with a loss"), ("focal-loss", "watch"), ("batches-by-name", "watch with a loss")],
)
def test_a_program_is_used_as_its_author_would(monkeypatch, name, watch):
    monkeypatch.setitem(worker.TOOLS, "heard", Heard)
    HEARD.clear()
    row = worker.run("heard", name, 0)
    assert ["preflight", watch] == HEARD
    assert row["errors"] == []
    assert row["learned"] is True
    assert Score(*row["score"]).learned


def row(name, seed, *told, errors=()):
    """A run as the worker gives it."""
    return {
        "tool": "heard",
        "name": name,
        "seed": seed,
        "told": [dict(zip(("status", "rule", "where", "at", "text"), one, strict=True)) for one in told],
        "errors": list(errors),
        "learned": None,
        "seconds": 2.0,
        "preflight_seconds": 0.5,
    }


def test_two_of_three_seeds_decide():
    decay = ("fail", "weight-decay", "0.weight", 7, "weights shrink")
    other = ("warn", "unchanged", "0.weight", -1, "stands still")
    rows = [
        row("weight-decay-of-10", 0, decay),
        row("weight-decay-of-10", 1, other, decay),
        row("weight-decay-of-10", 2),
    ]
    (verdict,) = score.verdicts(rows, "heard")
    assert (verdict.failed, verdict.caught, verdict.named, verdict.at) == (True, True, True, -1)
    (verdict,) = score.verdicts(rows[1:], "heard")
    assert (verdict.failed, verdict.caught, verdict.named) == (False, False, False)


def test_a_cause_counts_where_it_stands_on_top():
    noise = [("fail", f"noise-{number}", "", 1, "") for number in range(score.SEEN_FIRST)]
    below = ("warn", "weight-decay", "", 1, "")
    for told, named in (([*noise[1:], below], True), ([*noise, below], False)):
        rows = [row("weight-decay-of-10", seed, *told) for seed in range(3)]
        (verdict,) = score.verdicts(rows, "heard")
        assert verdict.named is named


def test_a_cause_is_named_by_a_whole_id_or_by_words_of_what_was_seen():
    assert causes.names(("weight-decay",), "weight-decay", "")
    assert not causes.names(("decay",), "weight-decay", "decay")
    assert causes.names((r"~\bdead\b",), "x", "All units are DEAD.")
    assert not causes.names((r"~\bdead\b",), "dead", "deadline")


def test_single_programs_of_the_kept_half_are_not_told():
    rows = [row(name, 0, ("fail", "x", "", 3, "")) for name in PROGRAMS]
    told = table.details(rows, "heard")
    for name in PROGRAMS:
        assert (f"`{name}`" in told) == (half(name) == "tuning")


def test_seconds_are_compared_with_the_program_alone():
    alone = {**row("slow-sgd", 0), "tool": "nothing", "seconds": 1.0, "preflight_seconds": 0.0}
    which = half("slow-sgd")
    line = score.line([alone, row("slow-sgd", 0, errors=["broke"]), row("slow-sgd", 0)], "heard", which)
    assert (line.preflight_seconds, line.overhead, line.errors, line.healthy) == (0.5, 0.5, 1, 1)
