"""The watcher of training loops: everything that needs torch; ``import tensorstats`` does not import it."""

from __future__ import annotations

from tensorstats.rules import Finding
from tensorstats.torch._watch import watch
from tensorstats.torch.clip import clip_grad_norm_
from tensorstats.torch.guard import WatchWarning
from tensorstats.torch.monitor import Monitor

__all__ = ["Finding", "Monitor", "WatchWarning", "clip_grad_norm_", "watch"]
