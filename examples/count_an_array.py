"""Exact statistics of arrays: one pass, any dtype, and merging of pieces that never were in memory together.

Run it with ``python examples/count_an_array.py``; it needs numpy only.
"""

from __future__ import annotations

import numpy as np

import tensorstats as ts

random = np.random.default_rng(0)
x = random.standard_normal((1000, 1000), dtype=np.float32)
x[17, 4] = np.nan

whole = ts.summary(x)
print(whole)
print(f"NaN: {whole.nan_count}, mean: {whole.mean:.6f}, std: {whole.std():.6f}, norm: {whole.l2:.3f}")

# Pieces are merged: the counts are the same as those of the whole, whatever the cuts.
pieces = ts.Summary()
for rows in np.array_split(x, 7):
    pieces.update(rows)
assert (pieces.count, pieces.nan_count, pieces.min, pieces.max) == (whole.count, whole.nan_count, whole.min, whole.max)
print(f"seven pieces: {pieces.count} values, mean {pieces.mean:.6f}")
