"""A plain training loop with `ts.watch` around it: the second layer cannot learn, and the report says why.

Run it with ``python examples/watch_a_loop.py``; it needs torch.
"""

from __future__ import annotations

import torch
from torch import nn

import tensorstats as ts

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.Adam([*model[0].parameters(), *model[4].parameters()], lr=1e-3)  # model[2] is forgotten

with ts.watch(model, optimizer) as monitor:
    for _ in range(100):
        x = torch.randn(64, 8)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        model.zero_grad()
        loss.backward()
        optimizer.step()

print(monitor.report())
