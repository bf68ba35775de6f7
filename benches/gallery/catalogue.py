"""All programs of the gallery, gathered by importing the files that declare them."""

from __future__ import annotations

from gallery import (
    bugs_depth,
    bugs_flow,
    bugs_loops,
    bugs_losses,
    bugs_norms,
    bugs_optimizers,
    bugs_parts,
    healthy_loops,
    healthy_plain,
    healthy_shapes,
    healthy_tasks,
    known_loops,
    known_losses,
)
from gallery.program import PROGRAMS

__all__ = ["PROGRAMS"]

_KNOWN = (known_losses, known_loops)
_BUGS = (bugs_losses, bugs_flow, bugs_loops, bugs_optimizers, bugs_depth, bugs_norms, bugs_parts)
_HEALTHY = (healthy_plain, healthy_shapes, healthy_tasks, healthy_loops)
