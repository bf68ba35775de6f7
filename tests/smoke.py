"""Owns the proof that an installed tensorstats works where there is numpy and nothing else. Needs no pytest.

Usage: python -P smoke.py, with the Python of an environment that holds tensorstats and numpy alone.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib.metadata import distributions, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import tensorstats as ts

installed = {distribution.metadata["Name"].lower() for distribution in distributions()}
assert installed <= {"tensorstats", "numpy", "pip", "setuptools"}, f"not alone: {sorted(installed)}"
assert find_spec("torch") is None
assert Path(ts.__file__).is_relative_to(sys.prefix), f"not the installed package: {ts.__file__}"
assert ts.__version__ == version("tensorstats")

for dtype in ("float16", "float32", "float64", "int8", "uint64", "bool"):
    x = np.arange(60_000).reshape(200, 300).T % 2 == 0
    s = ts.summary(x.astype(dtype))
    assert (s.count, s.zero_count, s.sum, s.mean) == (60_000, 30_000, 30_000, 0.5), (dtype, s)

x = np.random.default_rng(0).standard_normal((500, 200), dtype=np.float32)
x[3, 7] = np.nan
s = ts.summary(x, moments=4, formats="float16", threads=2)
finite = x[np.isfinite(x)].astype(np.float64)
assert (s.nan_count, s.min, s.max) == (1, finite.min(), finite.max())
assert abs(s.mean - finite.mean()) < 1e-9
assert abs(s.l2 - np.linalg.norm(finite)) < 1e-9 * s.l2
assert pickle.loads(pickle.dumps(s)) == ts.Summary.from_bytes(s.to_bytes()) == s
assert ts.histogram(x, ts.axis.Regular(8, -4, 4)).values().tolist() == np.histogram(finite, 8, (-4, 4))[0].tolist()
assert ts.quantile(x, [0.25, 0.5]).tolist() == np.quantile(finite, [0.25, 0.5]).tolist()
assert ts.unit_activity(x, dim=1).count.tolist() == [500] * 200
assert not ts.is_finite(x)
assert ts.summaries({"all": x, "some": x[:5]})["some"].count == 1000
for refused, error, words in (
    (lambda: ts.check(x, finite=True, name="x"), ts.CheckError, "[3, 7]"),
    (lambda: ts.watch, ImportError, "pip install 'tensorstats[torch]'"),
):
    try:
        refused()
    except error as told:
        said = str(told)
    else:
        said = "nothing"
    assert words in said, said
done = subprocess.run([sys.executable, "-m", "tensorstats", "--version"], capture_output=True, text=True, check=True)
assert done.stdout == f"tensorstats {ts.__version__}\n"

print(f"smoke test passed: tensorstats {ts.__version__}, numpy {np.__version__}, Python {sys.version.split()[0]}")
