"""The command line, ``python -m tensorstats``: arguments and exit codes; leaves the work to the modules it calls."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tensorstats import __version__, demo
from tensorstats.cli import explain

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one command: 0 for success, 1 when a check failed, 2 when it could not be run."""
    # A terminal that cannot print μ or → shows a question mark in its place.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        if options.command == "explain":
            return explain.run(options.rule)
        return demo.run(
            options.bug,
            steps=options.steps,
            seed=options.seed,
            out=options.out,
            amp=options.amp,
            compiled=options.compile,
        )
    except BrokenPipeError:
        # The reader of our output (head, say) has gone: nothing is left to tell, not even at exit. The file
        # stays open until then on purpose, and the null device is no path of ours.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return 1
    except (demo.MissingDependencyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tensorstats", description="Exact statistics of tensors, and a watcher for training loops."
    )
    parser.add_argument("--version", action="version", version=f"tensorstats {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    _add_demo(commands)
    _add_explain(commands)
    return parser


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "say what a rule of the watcher measures, where its limits come from and what to try"
    parser = commands.add_parser("explain", help=text, description=f"{text.capitalize()}. Without a rule: all of them.")
    parser.add_argument("rule", nargs="?", help="the id of a rule, such as dead-units")


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "train a small network on handwritten digits, plant a bug, and let the watcher name it"
    parser = commands.add_parser(
        "demo",
        help=text,
        description=f"{text.capitalize()}. Exits with 0 when its first finding names the bug.",
    )
    parser.add_argument(
        "--bug", choices=demo.BUG_NAMES, default=demo.DEFAULT_BUG, help="what to plant (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=_steps, default=demo.DEFAULT_STEPS, help="optimizer steps of each run (default: %(default)s)"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of weights, split and batches (default: %(default)s)")
    parser.add_argument("--amp", action="store_true", help="train in mixed precision (bfloat16)")
    parser.add_argument("--compile", action="store_true", help="train through torch.compile (needs a C++ compiler)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.png", help="the picture to write (default: tensorstats-demo-BUG.png)"
    )


def _steps(text: str) -> int:
    steps = _whole_number(text)
    if steps < demo.MINIMUM_STEPS:
        raise argparse.ArgumentTypeError(f"must be at least {demo.MINIMUM_STEPS}, got {steps}")
    return steps


def _seed(text: str) -> int:
    seed = _whole_number(text)
    if not 0 <= seed < 2**63:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2^63 - 1, got {seed}")
    return seed


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
