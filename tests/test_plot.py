"""Pictures: the area drawn is the count, what cannot be drawn is said, and nothing is too odd to draw."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import tensorstats as ts


@pytest.fixture
def ax() -> Iterator[Axes]:
    """Fresh axes that are rendered after the test, so that what only fails on drawing fails too."""
    figure = Figure(figsize=(4, 3))
    FigureCanvasAgg(figure)
    yield figure.subplots()
    figure.savefig(io.BytesIO(), format="png", dpi=50)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def log_linear(values: np.ndarray, precision: int = 6) -> ts.Histogram:
    return ts.histogram(values, ts.axis.LogLinear(precision))


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def area(ax: Axes) -> float:
    """What the stairs hold, in the unit that the label of the axis tells."""
    values, edges, _ = ax.patches[0].get_data()
    label = ax.get_ylabel()
    if label.startswith("values per bin") or label.endswith("bins"):
        return values.sum()
    if label == "values per decade":
        transform = ax.xaxis.get_transform()
        return float(np.sum(values * np.diff(transform.transform(edges))) / getattr(transform, "linthresh", 1.0))
    return float(np.sum(values * np.diff(edges)) / float(label.removeprefix("values per ")))


# --- one histogram ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("h", "scale", "unit"),
    [
        (ts.histogram(random().standard_normal(5000), bins=64), "linear", "values per bin"),
        (ts.histogram(random().standard_normal(5000), bins=4096), "linear", "values per 16 bins"),
        (ts.histogram(random().standard_normal(5000), bins=1), "linear", "values per bin"),
        (ts.histogram(np.full(9, 3.0), bins=64), "linear", "values per bin"),
        (
            ts.histogram(random().standard_normal(5000), ts.axis.Variable([-9, -1, 0, 0.5, 9])),
            "linear",
            "values per 0.1",
        ),
        (log_linear(random().standard_normal(5000)), "linear", "values per 0.05"),
        (log_linear(random().standard_normal(5000), 0), "linear", "values per 0.05"),
        (log_linear(np.full(9, 3.0)), "linear", "values per 0.02"),
        (log_linear(np.full(9, -3.0), 0), "linear", "values per 0.05"),
        (log_linear(random().lognormal(0, 3, 800)), "log", "values per decade"),
        (log_linear(-random().lognormal(0, 3, 5000)), "symlog", "values per decade"),
        (log_linear(random().standard_normal(5000) ** 7), "symlog", "values per decade"),
        (log_linear(random().integers(-128, 128, 500).astype(np.int8), 7), "linear", "values per 2"),
        (
            ts.histogram(random().lognormal(0, 3, 500), ts.axis.Variable(np.geomspace(1e-9, 1e9, 40))),
            "log",
            "values per decade",
        ),
    ],
    ids=lambda part: str(part).split(" x∈")[0],
)
def test_the_area_is_the_count(ax: Axes, h: ts.Histogram, scale: str, unit: str):
    assert h.plot(ax) is ax
    assert (ax.get_xscale(), ax.get_ylabel(), ax.get_xlabel()) == (scale, unit, "value")
    left_out = sum(int(word.split(" below")[0]) for word in words(ax) if " below 1e" in word)
    assert math.isclose(area(ax), h.values().sum() - (h.zero_count or 0) - left_out, rel_tol=1e-9)
    assert left_out <= h.count / 1000
    assert ax.get_ylim()[0] == 0
    assert f"n = {h.count:,}" in words(ax)


@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_the_scale_can_be_chosen(ax: Axes, scale: str):
    h = log_linear(random().lognormal(0, 1, 500))
    assert h.plot(ax, scale=scale).get_xscale() == scale
    assert area(ax) == pytest.approx(500, rel=2e-3)


def test_zeros_have_no_width_and_are_said(ax: Axes):
    h = log_linear(np.r_[np.zeros(1000), random().standard_normal(1000)])
    h.plot(ax)
    assert area(ax) == pytest.approx(1000)
    assert "zeros 50%" in words(ax)


def test_what_is_not_drawn_is_said(ax: Axes):
    values = np.r_[np.full(3, -9.0), np.full(2000, 9.0), 0.5, np.full(4, np.nan), np.inf, -np.inf, -np.inf]
    ts.histogram(values, bins=4, range=(0, 1)).plot(ax)
    assert words(ax) == ["n = 2,011", "3 below and 2,000 above the axis", "NaN 4", "+inf 1", "-inf 2"]
    loud = [text.get_color() for text in ax.texts]
    assert len(set(loud[:2])) == len(set(loud[2:])) == 1
    assert loud[0] != loud[2]


@pytest.mark.parametrize(
    ("h", "said"),
    [
        (ts.Histogram(ts.axis.LogLinear(6)), "no values"),
        (ts.Histogram(ts.axis.Regular(64, 0, 1)), "no values"),
        (log_linear(np.zeros(10)), "every finite value is 0"),
        (log_linear(np.array([np.nan, np.inf])), "no finite value"),
        (ts.histogram(np.array([5.0]), bins=2, range=(0, 1)), "every finite value is outside the axis"),
        (log_linear(np.array([1.7e308, -1.7e308])), "values beyond what matplotlib can draw"),
        (log_linear(np.array([5e-324])), "values beyond what matplotlib can draw"),
    ],
)
def test_nothing_to_draw_is_said(ax: Axes, h: ts.Histogram, said: str):
    h.plot(ax)
    assert said in words(ax)
    assert len(ax.patches) == 0


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["auto", "linear", "log", "symlog"])
@pytest.mark.parametrize(
    "values",
    [[5e-324, 1.0, 1.7e308], [1e190, 1e-190, -1.0], [-5.0], [1.0, 1.0 + 2**-52], [3e38, -3e38], [1e-45, 1e-40]],
    ids=str,
)
def test_odd_ranges_are_drawn(ax: Axes, values: list[float], scale: str):
    for precision in (0, 10):
        log_linear(np.array(values), precision).plot(ax, scale=scale)
        ts.histogram(np.array(values), bins=64).plot(ax, scale=scale)


def test_the_second_picture_keeps_the_scale_of_the_first(ax: Axes):
    first = log_linear(random().standard_normal(2000) ** 9)
    bad = log_linear(np.r_[random().standard_normal(2000) * 100, np.nan])
    first.plot(ax, label="step 0")
    linear_up_to = ax.xaxis.get_transform().linthresh
    bad.plot(ax, label="step 9")
    assert (ax.get_xscale(), ax.xaxis.get_transform().linthresh) == ("symlog", linear_up_to)
    assert [text.get_text() for text in ax.legend().get_texts()] == ["step 0", "step 9, NaN 1"]
    assert words(ax) == []
    a, b = (patch.get_facecolor() for patch in ax.patches)
    assert a != b


def test_without_axes_it_draws_on_those_in_use(monkeypatch: pytest.MonkeyPatch):
    from matplotlib import pyplot

    ours = Figure().subplots()
    monkeypatch.setattr(pyplot, "gca", lambda: ours)
    assert log_linear(np.ones(3)).plot() is ours
    assert ts.plot.ridgeline([log_linear(np.ones(3))]) is ours
    assert ts.plot.units(ts.unit_activity(np.ones((3, 3)))) is ours


def test_ticks_of_a_symlog_axis_are_few_and_even(ax: Axes):
    log_linear(random().standard_normal(4000) * 10.0 ** random().uniform(-30, 30, 4000)).plot(ax)
    ax.figure.canvas.draw()
    ticks = ax.get_xticks()
    assert 5 <= len(ticks) <= 9
    assert 0 in ticks
    assert np.array_equal(ticks, -ticks[::-1])
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert "0" in labels
    assert len(set(labels)) == len(labels)


# --- histograms over steps --------------------------------------------------------------------------------------------


def test_ridgeline_draws_a_row_a_step(ax: Axes):
    rows = {step: log_linear(random().standard_normal(500) * (1 + step)) for step in (0, 10, 30)}
    rows[40] = log_linear(np.array([np.nan, np.nan]))
    rows[50] = log_linear(np.r_[1.0, np.inf])
    rows[60] = ts.histogram(np.arange(5.0), bins=64)
    assert ts.plot.ridgeline(rows, ax) is ax
    assert len(ax.lines) == len(rows)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "10", "30", "40", "50", "60"]
    assert words(ax) == ["NaN 2, no finite value", "+inf 1"]
    # The first step is at the top.
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    for row, line in enumerate(ax.lines):
        heights = row - line.get_ydata()
        assert heights.max() == (0 if row == 3 else pytest.approx(2.2))
        assert heights.min() >= 0


def test_ridgeline_of_many_steps_shows_the_first_and_the_last(ax: Axes):
    rows = [ts.histogram(random().normal(i / 100, 1, 200), bins=64) for i in range(500)]
    ts.plot.ridgeline(rows, ax, rows=7)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "83", "166", "250", "333", "416", "499"]


@pytest.mark.parametrize(
    "h",
    [
        ts.Histogram(ts.axis.LogLinear(6)),
        log_linear(np.full(5, 2.0)),
        log_linear(np.zeros(4)),
        ts.histogram(np.zeros(3), bins=64),
    ],
    ids=str,
)
def test_ridgeline_of_one(ax: Axes, h: ts.Histogram):
    ts.plot.ridgeline([h], ax)
    assert len(ax.lines) == 1


def test_ridgeline_is_logarithmic_where_one_histogram_would_be(ax: Axes):
    ts.plot.ridgeline([log_linear(random().lognormal(i, 3, 500)) for i in range(4)], ax)
    assert ax.get_xscale() == "log"


# --- units ------------------------------------------------------------------------------------------------------------


def layer(units: int, batch: int = 50) -> np.ndarray:
    return (random().standard_normal((batch, units)) + random().standard_normal(units)).clip(0)


@pytest.mark.parametrize(
    ("units", "shape"), [(1, (1, 1)), (7, (1, 7)), (64, (1, 64)), (65, (8, 9)), (10_000, (100, 100))]
)
def test_units_are_cells_in_the_order_of_their_indices(ax: Axes, units: int, shape: tuple[int, int]):
    values = layer(units)
    values[:, units // 2] = 0
    u = ts.unit_activity(values)
    ts.plot.units(u, ax)
    image = ax.images[0].get_array()
    assert image.shape == (*shape, 3)
    cells = image.reshape(-1, 3)
    dead = np.flatnonzero(np.all(np.isclose(cells, (0xC0 / 255, 0x39 / 255, 0x2B / 255)), axis=1))
    assert dead.tolist() == u.dead_units().tolist()
    assert np.all(cells[units:] == 1)
    assert ax.get_title(loc="left") == (f"{units:,} units" if units > 1 else "1 unit")
    (told,) = (text.get_text() for text in ax.get_legend().get_texts())
    assert told.startswith(f"dead: {len(dead):,} (")


def test_units_tell_dead_from_not_finite_and_unseen(ax: Axes):
    values = layer(100) + 1
    values[:, 5] = 0
    values[0, 6] = np.inf
    values[:, 7] = np.nan
    ts.plot.units(ts.unit_activity(values), ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dead: 1 (1%)", "NaN or ±inf: 2 (2%)"]
    nothing = ts.unit_activity(np.zeros((0, 9)))
    ts.plot.units(nothing, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["no values: 9 (100%)"]


def test_units_with_a_threshold_and_without_dead_ones(ax: Axes):
    values = np.ones((10, 4))
    values[1:, 0] = 0
    u = ts.unit_activity(values)
    ts.plot.units(u, ax)
    assert ax.get_legend() is None
    ts.plot.units(u, ax, threshold=0.1)
    assert ax.get_legend().get_texts()[0].get_text() == "dead: 1 (25%)"


def test_saturated_units(ax: Axes):
    values = np.array([[5.0, 0.5, 1.0], [5.0, 5.0, 1.0]])
    ts.plot.units(ts.unit_activity(values, saturation=(-1, 2)), ax, what="saturated")
    lightness = ax.images[0].get_array().sum(axis=2)[0]
    assert lightness[0] < lightness[1] < lightness[2]


def test_units_that_are_all_alike_say_why(ax: Axes):
    gelu = np.random.default_rng(0).standard_normal((100, 8)) + 1e-3
    ts.plot.units(ts.unit_activity(gelu), ax)
    assert "8 units\nall are active nearly always: GELU, SiLU, tanh" in ax.get_title(loc="left")
    ax.figure.canvas.draw()
    ts.plot.units(ts.unit_activity(gelu, saturation=(-9.0, 9.0)), ax, what="saturated")
    assert ax.get_title(loc="left").endswith("no value is beyond the bounds (-9.0, 9.0)")
    ts.plot.units(ts.unit_activity(gelu.clip(0)), ax)
    assert ax.get_title(loc="left") == "8 units"


def test_no_units(ax: Axes):
    ts.plot.units(ts.UnitActivity(1), ax)
    assert words(ax) == ["no units"]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ax: log_linear(np.ones(3)).plot(ax, scale="asinh"), "scale must be 'auto', .* got: 'asinh'"),
        (lambda ax: ts.plot.ridgeline([], ax), "histograms must hold at least one, got: none"),
        (lambda ax: ts.plot.ridgeline([log_linear(np.ones(3))], ax, rows=0), "rows must be at least 1, got: 0"),
        (
            lambda ax: ts.plot.units(ts.UnitActivity(1), ax, what="mean"),
            "what must be 'active' or 'saturated', got: 'mean'",
        ),
        (lambda ax: ts.plot.units(ts.UnitActivity(1), ax, what="saturated"), "needs units counted with saturation="),
    ],
)
def test_what_cannot_be_is_refused(ax: Axes, call: object, message: str):
    with pytest.raises(ValueError, match=message):
        call(ax)
