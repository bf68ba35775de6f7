"""The watcher of training loops: everything that needs torch; ``import tensorstats`` does not import it."""

from __future__ import annotations

from tensorstats.rules import Finding
from tensorstats.torch._watch import watch
from tensorstats.torch.actions import DebuggerQuit, FindingError, FindingWarning
from tensorstats.torch.choosing import Collection
from tensorstats.torch.clip import clip_grad_norm_
from tensorstats.torch.guard import WatchWarning
from tensorstats.torch.monitor import Monitor
from tensorstats.torch.schedule import Schedule

__all__ = [
    "Collection",
    "DebuggerQuit",
    "Finding",
    "FindingError",
    "FindingWarning",
    "Monitor",
    "Schedule",
    "WatchWarning",
    "clip_grad_norm_",
    "watch",
]
