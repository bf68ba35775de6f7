"""All programs of the gallery, gathered by importing the files that declare them."""

from __future__ import annotations

from gallery import healthy_plain, healthy_shapes, known_loops, known_losses
from gallery.program import PROGRAMS

__all__ = ["PROGRAMS"]

_DECLARED_BY = (known_losses, known_loops, healthy_plain, healthy_shapes)
