"""The pictures of docs/histograms.md: gradients over the steps of a training, and the units of a layer with dead ones.

Run it with ``python examples/draw_pictures.py [folder]``; it needs torch and matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

import tensorstats as ts

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs"

torch.manual_seed(0)
hidden = nn.Linear(32, 256)
nn.init.normal_(hidden.bias, -1.0, 0.8)  # too far below zero: units whose bias is lowest never fire
relu, head = nn.ReLU(), nn.Linear(256, 1)
optimizer = torch.optim.Adam([*hidden.parameters(), *head.parameters()], lr=3e-3)

units = ts.UnitActivity(dim=1)
gradients: dict[int, ts.Histogram] = {}
for step in range(301):
    x = torch.randn(128, 32)
    activity = relu(hidden(x))
    units.update(activity)
    loss = (head(activity) - x[:, :4].prod(1, keepdim=True).tanh()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    if step % 15 == 0:
        gradients[step] = ts.histogram(hidden.weight.grad, ts.axis.LogLinear(6))
    optimizer.step()

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
gradients[0].plot(left, label="step 0")
gradients[300].plot(left, label="step 300")
left.legend(loc="upper right")
left.set_title("gradient of the hidden weights")
ts.plot.ridgeline(gradients, right)
right.set_title("the same over the training")
figure.savefig(folder / "gradients.png", dpi=110)

figure, ax = plt.subplots(figsize=(7.4, 5.6), layout="constrained")
ts.plot.units(units, ax)
ax.set_title("hidden layer after 301 steps")
figure.savefig(folder / "units.png", dpi=110)
print(units)
