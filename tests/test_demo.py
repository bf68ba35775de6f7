"""Owns the demo: every planted bug shows its symptom and is named, a healthy run is silent, the output reads well."""

from __future__ import annotations

import dataclasses
import io
import re
import types
from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from tensorstats import demo
from tensorstats.demo import play, show
from tensorstats.demo.bugs import BUGS, HEALTHY, NAN_INDEX, Bug, with_nan
from tensorstats.demo.data import BATCH_SIZE, batches, load
from tensorstats.demo.models import network
from tensorstats.demo.picture import draw
from tensorstats.demo.train import Run, train
from tensorstats.rules import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
STEPS = demo.MINIMUM_STEPS  # the fewest allowed must be enough
PLANTED = [name for name in BUGS if name != "none"]
COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The network is so small that threads of a busy machine wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def run_of(bug: str, seed: int = 0, steps: int = STEPS, amp: bool = False) -> Run:
    return train(load(seed), BUGS[bug], steps=steps, seed=seed, amp=amp)


def first_batch_gradients(bug: Bug, seed: int) -> dict[str, float]:
    """The gradient norms of the weights after one batch, by torch alone."""
    torch.manual_seed(seed)
    model = network(bug.activation)
    bug.spoil_model(model)
    images, labels = next(batches(load(seed), 1, seed))
    nn.functional.cross_entropy(model(images), labels).backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
    return {name.removesuffix(".weight"): norm for name, norm in norms.items() if name.endswith(".weight")}


# --- the data ---------------------------------------------------------------------------------------------------------


def test_the_data_are_all_digits_scaled_and_split_without_overlap() -> None:
    digits = load(3)
    assert (len(digits.train_images), len(digits.test_images)) == (1500, 297)
    assert digits.train_images.shape[1:] == (1, 8, 8)
    assert digits.train_images.mean().abs() < 1e-5
    assert abs(digits.train_images.std() - 1) < 1e-5
    assert sorted(set(digits.train_labels.tolist())) == list(range(10))
    labels = torch.cat([digits.train_labels, digits.test_labels])
    assert labels.bincount().tolist() == torch.cat([load(4).train_labels, load(4).test_labels]).bincount().tolist()


def test_batches_are_full_and_an_epoch_shows_an_image_once() -> None:
    digits = load(0)
    per_epoch = 1500 // BATCH_SIZE
    seen = [images for images, _ in batches(digits, per_epoch, 0)]
    assert all(len(images) == BATCH_SIZE for images in seen)
    # Two of the images are equal now and then, so whole images are compared by their number only.
    assert len(torch.cat(seen).flatten(1).unique(dim=0)) >= per_epoch * BATCH_SIZE - 5
    assert len(list(batches(digits, 100, 0))) == 100


# --- the bugs show their symptoms, whatever the watcher says ----------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_dead_relu_kills_exactly_one_layer_and_what_it_feeds(seed: int) -> None:
    torch.manual_seed(seed)
    model = network()
    BUGS["dead-relu"].spoil_model(model)
    x = load(seed).train_images
    alive = {}
    for name, layer in model.named_children():
        x = layer(x)
        alive[name] = bool((x != 0).any())
    assert alive["act2"]
    assert alive["hidden3"]
    assert not alive["act3"]
    assert set(first_batch_gradients(BUGS["dead-relu"], seed).values()) == {0.0}


@pytest.mark.parametrize("seed", SEEDS)
def test_vanishing_shrinks_the_gradient_layer_by_layer(seed: int) -> None:
    norms = list(first_batch_gradients(BUGS["vanishing"], seed).values())
    assert norms == sorted(norms)
    assert norms[0] / norms[-1] < 1e-3
    healthy = list(first_batch_gradients(HEALTHY, seed).values())
    assert healthy[0] / healthy[-1] > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_exploding_has_enormous_gradients(seed: int) -> None:
    assert min(first_batch_gradients(BUGS["exploding"], seed).values()) > 1e4
    assert max(first_batch_gradients(HEALTHY, seed).values()) < 10


def test_nan_input_has_one_nan_and_leaves_the_data_alone() -> None:
    images, _ = next(batches(load(0), 1, 0))
    spoiled = with_nan(images)
    assert spoiled.isnan().nonzero().tolist() == [list(NAN_INDEX)]
    assert not images.isnan().any()


def test_frozen_leaves_one_layer_as_it_was() -> None:
    monitor = run_of("frozen").monitor
    for name in monitor.names("parameters"):
        sums = monitor.series("parameters", name, "sum")[1]
        assert (len(set(sums)) == 1) == name.startswith("hidden3."), name


def test_no_zero_grad_piles_gradients_up() -> None:
    piled = run_of("no-zero-grad").monitor.series("gradients", "hidden1.weight", "l2")[1]
    reset = run_of("none").monitor.series("gradients", "hidden1.weight", "l2")[1]
    assert piled[0] == reset[0]
    assert piled[-1] > 5 * reset[-1]


# --- the findings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bug", PLANTED)
def test_the_first_finding_names_the_planted_bug(bug: str, seed: int) -> None:
    run = run_of(bug, seed)
    assert run.monitor.errors == []
    assert run.findings
    first = run.findings[0]
    assert first.rule == BUGS[bug].rule
    assert first.where in BUGS[bug].where
    assert run.as_expected
    assert first.why
    assert first.advice


@pytest.mark.parametrize("seed", SEEDS)
def test_the_healthy_run_learns_and_ends_without_a_finding(seed: int) -> None:
    run = run_of("none", seed, demo.DEFAULT_STEPS)
    assert run.findings == []
    assert run.monitor.errors == []
    assert run.accuracy > 0.9
    assert run.as_expected


@pytest.mark.parametrize("bug", list(BUGS))
def test_mixed_precision_changes_the_dtype_and_no_verdict(bug: str) -> None:
    run = run_of(bug, amp=True)
    assert run.as_expected, [str(finding) for finding in run.findings]
    assert not run.monitor.errors
    assert run.monitor.latest("outputs", "hidden1").dtype == "bfloat16"
    assert run.monitor.latest("parameters", "hidden1.weight").dtype == "float32"


@pytest.mark.parametrize("bug", ["dead-relu", "none"])
def test_compiling_changes_no_verdict(bug: str) -> None:
    torch.compiler.reset()
    run = train(load(0), BUGS[bug], steps=STEPS, seed=0, compiled=True)
    assert run.as_expected, [str(finding) for finding in run.findings]
    assert not run.monitor.errors
    assert run.monitor.names("outputs") == run_of(bug).monitor.names("outputs")


@pytest.mark.parametrize("steps", [STEPS, 101])
def test_the_nan_is_found_in_its_step_and_at_its_index(steps: int) -> None:
    first = run_of("nan-input", 0, steps).findings[0]
    assert first.step == steps // 2
    assert str(list(NAN_INDEX)) in first.why
    assert first.value == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_named_exploding_layer_does_explode(seed: int) -> None:
    run = run_of("exploding", seed)
    first = run.findings[0]
    steps, norms = run.monitor.series("gradients", f"{first.where}.weight", "l2")
    assert norms[steps == first.step] > first.limit
    assert first.value in norms


def test_the_same_seed_gives_the_same_run_and_leaves_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    once, again = (train(load(5), BUGS["exploding"], steps=5, seed=5).losses for _ in range(2))
    assert once == again
    assert once != train(load(6), BUGS["exploding"], steps=5, seed=6).losses
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_names_of_the_command_line_are_those_of_the_bugs() -> None:
    assert tuple(BUGS) == demo.BUG_NAMES
    assert demo.DEFAULT_BUG in BUGS


# --- the output -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bug", ["dead-relu", "nan-input", "none"])
def test_the_output_tells_what_was_planted_and_found(
    bug: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "out.png"
    assert demo.run(bug, steps=STEPS, out=path) == 0
    output = capsys.readouterr()
    assert output.err == ""  # no terminal, no progress bar
    assert not COLOUR.search(output.out)
    assert max(map(len, output.out.splitlines())) <= show.WIDTH
    assert f"picture: {path}" in output.out
    assert "ok  healthy: nothing is wrong, and nothing was found" in output.out
    for column in ("min", "max", "mean", "std", "zeros", "NaN", "norm", "dead"):
        assert f" {column}" in output.out
    for tensor in ("output", "weight", "weight grad"):
        assert output.out.count(f" {tensor} ") >= 7
    if bug == "none":
        assert "No findings." in output.out
        assert "Planted" not in output.out
    else:
        assert BUGS[bug].planted in output.out
        assert f"{BUGS[bug].rule} at {BUGS[bug].where[0]}" in output.out
        for part in ("measured", "limit", "why", "try"):
            assert part in output.out


@pytest.mark.parametrize(
    ("bug", "verdict"),
    [
        (dataclasses.replace(BUGS["frozen"], where=("hidden4",)), "found first: frozen at hidden3"),
        (dataclasses.replace(HEALTHY, name="quiet", rule="dead-units", where=("act3",)), "found first: nothing"),
        (dataclasses.replace(BUGS["frozen"], rule="", where=()), "yet found: frozen at hidden3"),
    ],
    ids=["wrong-place", "missed", "false-alarm"],
)
def test_a_wrong_answer_is_called_wrong_and_exits_with_1(
    bug: Bug, verdict: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(BUGS, "frozen", bug)
    assert play.play("frozen", steps=STEPS, seed=0, out=tmp_path / "out.png") == 1
    output = capsys.readouterr().out
    assert verdict in output
    assert output.count("WRONG  ") == 1


def test_findings_beyond_the_first_of_each_rule_are_only_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of("none")
    rules = [("dead-units", "a"), ("dead-units", "b"), ("unchanged", "c"), ("unchanged", "d"), ("update-ratio", "e")]
    findings = [Finding(rule, "warning", where, 7, 1.0, 0.5, "Because.", "Try.") for rule, where in rules]
    monitor = types.SimpleNamespace(
        **{name: getattr(run.monitor, name) for name in ("step", "errors", "names", "series", "latest")},
        findings=findings,
    )
    show.details(dataclasses.replace(run, monitor=monitor))
    output = capsys.readouterr().out
    assert re.findall(r"^WARNING  (\S+) at (\S+),", output, re.MULTILINE) == [("dead-units", "a"), ("unchanged", "c")]
    assert "Also found, as a rule in consequence: dead-units at b (step 7);" in output
    assert "unchanged at d (step 7); update-ratio at e" in output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar_is_for_terminals_and_wipes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with show.Progress("healthy", 4, width=8) as progress:
        progress(2, 0.5)
    assert "████░░░░ step 2/4, loss 0.5" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with show.Progress("healthy", 4) as progress:
        progress(2, 0.5)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_only_on_terminals_and_never_against_the_users_will(
    no_color: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    run = run_of("frozen")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    show.details(run)
    show.ending([run], tmp_path / "out.png")
    assert bool(COLOUR.search(terminal.getvalue())) == (not no_color)
    monkeypatch.setattr("sys.stdout", plain := io.StringIO())
    show.details(run)
    show.ending([run], tmp_path / "out.png")
    assert COLOUR.sub("", terminal.getvalue()) == plain.getvalue()


# --- the picture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bug", list(BUGS))
def test_the_picture_says_what_was_found_where(bug: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    path = tmp_path / "out.png"
    runs = [run_of("none")] if bug == "none" else [run_of("none"), run_of(bug)]
    draw(runs, path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    assert len(titles) == len(runs)
    assert "no finding" in titles[0]
    if bug != "none":
        first = runs[1].findings[0]
        assert f"{first.rule} at {first.where}, since step {first.step}" in titles[1]
        assert figures[0].get_suptitle() == f"Planted: {BUGS[bug].planted}"
    texts = {text.get_text() for axes in figures[0].axes for text in axes.texts}
    assert ("the gradient of every weight is exactly 0" in texts) == (bug == "dead-relu")
    assert (f"NaN from step {STEPS // 2} on" in texts) == (bug == "nan-input")


def test_the_picture_counts_every_output_that_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bins of the picture hold what the histogram of the watcher holds: nothing is lost at the ends."""
    from tensorstats.demo import picture

    run = run_of("none")
    edges = picture._bins([run])
    for name in picture._watched_outputs(run):
        total = run.monitor.total("outputs", name)
        counted = picture._shares(run, name, edges).sum()
        assert counted == pytest.approx(total.finite_count - total.zero_count, rel=0.01)
