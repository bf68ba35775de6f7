"""Owns the tests of the table of summaries: rows equal single summaries, columns equal rows, order is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import tensorstats as ts

COUNTS = ("count", "nan_count", "posinf_count", "neginf_count", "zero_count", "negative_count", "positive_count")
FLOATS = ("min", "max", "absmax", "absmin", "sum", "mean", "l1", "l2", "rms")


def mixture() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    big = torch.randn(1_500_000, generator=generator)
    return {
        "big": big,
        "empty": torch.zeros(0, 4),
        "parameter": nn.Parameter(torch.randn(30, 40, generator=generator)),
        "transposed": torch.randn(300, 500, generator=generator).T,
        "half": torch.tensor([1.0, math.inf, math.nan, -0.0], dtype=torch.float16),
        "codes": torch.arange(-100, 100, dtype=torch.int8),
        "scalar": torch.tensor(7),
        "bits": torch.tensor([True, False]),
        "strided": big[::3],
        "fp8": torch.linspace(-4, 4, 999).to(torch.float8_e4m3fn),
    }


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("moments", [2, 4])
def test_rows_are_what_summary_gives(threads: int, moments: int):
    given = mixture()
    table = ts.summaries(given, moments=moments, threads=threads)
    assert table.names == list(table) == list(given)
    assert len(table) == len(given)
    for name, tensor in given.items():
        single = ts.summary(tensor, moments=moments)
        assert table[name] == single, name
        assert table[name].shape == tuple(tensor.shape)


def test_columns_are_the_fields_of_the_rows():
    table = ts.summaries(mixture())
    for field in COUNTS:
        assert table.column(field).dtype == np.uint64
        assert table.column(field).tolist() == [getattr(row, field) for row in table.values()]
    for field in FLOATS:
        expected = np.array([getattr(row, field) for row in table.values()], dtype=np.float64)
        np.testing.assert_array_equal(table.column(field), expected)
    np.testing.assert_array_equal(table.column("std"), [row.std() for row in table.values()])
    assert set(COUNTS) | set(FLOATS) <= set(table.columns())


def test_a_list_is_numbered_and_none_is_left_out():
    table = ts.summaries([np.ones(2), None, np.zeros(3)])
    assert table.names == ["0", "2"]
    assert table["2"].zero_count == 3


def test_a_state_dict():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    table = ts.summaries(model.state_dict())
    assert table.names == list(model.state_dict())
    assert table["1.num_batches_tracked"].max == 0


def test_nothing_is_an_empty_table():
    table = ts.summaries({})
    assert len(table) == 0
    assert table.column("mean").shape == (0,)
    assert repr(table).startswith("name")


def test_unknown_names_are_errors():
    table = ts.summaries([np.ones(2)])
    with pytest.raises(KeyError, match="unknown column: median; accepted"):
        table.column("median")
    with pytest.raises(KeyError, match="weight"):
        table["weight"]


def test_columns_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        ts.summaries([np.ones(2)]).column("mean")[0] = 1


def test_text_has_a_line_for_every_row():
    lines = repr(ts.summaries(mixture())).splitlines()
    assert len(lines) == 1 + len(mixture())
    assert lines[5].split()[0] == "half"
    assert "float16" in lines[5]


def test_pandas_is_asked_for_only_when_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    table = ts.summaries([np.ones(2)])
    with pytest.raises(ImportError):
        table.to_pandas()
