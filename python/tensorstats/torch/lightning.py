"""The name that ``tensorstats.integrations.lightning`` had before; stays until 1.0."""

from __future__ import annotations

from tensorstats.integrations.lightning import WatchCallback

__all__ = ["WatchCallback"]
