"""The watcher of training loops: everything that needs torch; ``import tensorstats`` does not import it."""

from __future__ import annotations

from tensorstats.rules import Finding
from tensorstats.run.choosing import Collection
from tensorstats.torch._watch import watch
from tensorstats.torch.actions import DebuggerQuit, FindingError, FindingWarning
from tensorstats.torch.attach.guard import WatchWarning
from tensorstats.torch.attach.schedule import Schedule
from tensorstats.torch.clip import clip_grad_norm_
from tensorstats.torch.monitor import Monitor

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
