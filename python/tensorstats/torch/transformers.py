"""The name that ``tensorstats.integrations.transformers`` had before; stays until 1.0."""

from __future__ import annotations

from tensorstats.integrations.transformers import WatchCallback

__all__ = ["WatchCallback"]
