"""Runs one program once under one tool, in a process that has torch loaded; the result is plain data."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import signal
import time
import traceback
import warnings
from typing import Any

import numpy as np
import torch

from gallery.catalogue import PROGRAMS
from gallery.peers import PEERS
from gallery.tools import Nothing, TensorStats, Tool

__all__ = ["TOOLS", "begin", "run"]

SECONDS_ALLOWED = 90


TOOLS: dict[str, type[Tool]] = {tool.name: tool for tool in (Nothing, TensorStats, *PEERS)}


class TooSlowError(BaseException):
    """The time allowed is over; not an Exception, so that no tool takes it for one of its own."""


def begin() -> None:
    """What a process does once: one thread, no chatter."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def run(tool_name: str, name: str, seed: int) -> dict[str, Any]:
    """Train a program under a tool and keep what was told, what was reached and what it cost in seconds of the CPU."""
    program, tool = PROGRAMS[name], TOOLS[tool_name]()
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- programs of others draw from it
    random.seed(seed)
    score, broke = None, None
    began = time.process_time()

    def stop(_signal: int, _frame: Any) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS_ALLOWED)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            score = program.main(tool)
    except (Exception, TooSlowError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        broke = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"[:400]
    finally:
        signal.alarm(0)
    return {
        "tool": tool_name,
        "name": name,
        "seed": seed,
        "told": [told.row() for told in tool.told],
        "errors": tool.errors + ([broke] if broke else []),
        "score": None if score is None else list(score),
        "learned": None if score is None else score.learned,
        "seconds": round(time.process_time() - began, 3),
        "preflight_seconds": round(tool.preflight_seconds, 3),
    }
