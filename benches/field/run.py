"""Trains the models of the field watched and unwatched, and says what the watcher told; builds no model itself.

``python benches/field/run.py`` runs all of it and writes the table into ``docs/field.md``; ``--only NAME`` a part of
it, ``--loop NAME`` one loop with a warm-up and without, ``--steps`` fewer steps. Every model has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import language
import others
import torch
import vision
from case import Case, returns_loss
from loops import LOOPS, Run
from table import write

CASES: dict[str, Case] = {case.name: case for case in [*vision.CASES, *language.CASES, *others.CASES]}
STEPS = 300
WARM_UP = 50
HERE = Path(__file__).resolve()


def _plan(name: str, chosen: list[str]) -> list[tuple[str, bool]]:
    """Which loops, and whether with a warm-up: the plain one both ways, and one of the others in turn."""
    number, own = list(CASES).index(name), CASES[name].loops
    if chosen or own:
        return [(loop, warm) for loop in own or chosen for warm in (True, False)]
    rest = ("GradScaler", "Accelerate", "Lightning", "Trainer")
    turn = rest[number % len(rest)]
    if turn == "GradScaler" and CASES[name].slow_in_float16:
        turn = "Accelerate"
    return [("plain", True), ("plain", False), (turn, number % 8 < 4)]


def _built(case: Case) -> torch.nn.Module:
    torch.manual_seed(0)
    model = case.build()
    model.train()
    return model


def _train(case: Case, model: torch.nn.Module, loop: str, warm: bool, steps: int, *, watched: bool) -> Run:
    torch.manual_seed(1)
    return LOOPS[loop](case, model, steps, WARM_UP if warm else 0, watched)


def _bits(model: torch.nn.Module) -> dict[str, bytes]:
    state = model.state_dict()
    return {name: value.contiguous().numpy().tobytes() for name, value in state.items() if torch.is_tensor(value)}


def _note_calls(model: torch.nn.Module) -> set[str]:
    """The modules without children that return a tensor from now on.

    Those that compute a weight from others (weight norm) are part of the layer whose weight it is.
    """
    ran: set[str] = set()

    def hook(name: str) -> Any:
        def note(_module: Any, _arguments: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, torch.Tensor):
                ran.add(name)

        return note

    for name, module in model.named_modules():
        if not any(True for _ in module.children()) and ".parametrizations." not in name:
            module.register_forward_hook(hook(name))
    return ran


def _learned(losses: list[float]) -> bool:
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    return last < 0.97 * first


def _one(case: Case, loop: str, warm: bool, steps: int) -> dict[str, Any]:
    began = time.perf_counter()
    reference, model = _built(case), _built(case)
    ran = _note_calls(reference)
    losses, _ = _train(case, reference, loop, warm, steps, watched=False)
    unwatched = time.perf_counter() - began
    began = time.perf_counter()
    watched_losses, monitor = _train(case, model, loop, warm, steps, watched=True)
    seconds = time.perf_counter() - began
    inside = "model." if _is_inside(case, loop) else ""
    recorded = {name[: len(name) - len(rest)] for name in monitor.names("outputs") for rest in _rests(name)}
    return {
        "loop": loop,
        "warm_up": warm,
        "steps": monitor.step,
        "skipped": monitor.skipped,
        "first_loss": losses[0],
        "last_loss": sum(losses[-30:]) / len(losses[-30:]),
        "learned": _learned(losses),
        "same_bits": _bits(reference) == _bits(model) and losses == watched_losses,
        "errors": list(monitor.errors),
        "missing": sorted(name for name in ran if inside + name not in recorded),
        "findings": [[f.rule, f.where, f.status, f.when, f"{f.value:.4g}"] for f in monitor.findings],
        "said": [str(finding) for finding in monitor.findings],
        "seconds": [round(unwatched, 1), round(seconds, 1)],
    }


def _rests(name: str) -> list[str]:
    """What may be a path within an output, after the name of a module."""
    return ["", *(name[place:] for place, sign in enumerate(name) if sign in ".[#" and place)]


def _is_inside(case: Case, loop: str) -> bool:
    """Whether the trainer watches a module that holds the model."""
    return loop == "Lightning" or (loop == "Trainer" and case.loss is not returns_loss)


def _child(name: str, steps: int, loops: list[str], done: set[tuple[str, bool]]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    case = CASES[name]
    for loop, warm in _plan(name, loops):
        if (loop, warm) in done:
            continue
        try:
            row = _one(case, loop, warm, steps)
        except Exception as error:
            row = {"loop": loop, "warm_up": warm, "broke": f"{type(error).__name__}: {error}"[:300]}
            traceback.print_exc()
        print("ROW " + json.dumps({"name": name, **row}), flush=True)


def _in_a_process(name: str, arguments: argparse.Namespace, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mine = [row for row in known if row["name"] == name and "broke" not in row]
    command = [sys.executable, str(HERE), "--child", name, "--steps", str(arguments.steps)]
    command += [f"--loop={loop}" for loop in arguments.loop]
    command += [f"--done={row['loop']}:{int(row['warm_up'])}" for row in mine]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    rows = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    if done.returncode or any("broke" in row for row in rows):
        print(f"{name}: exit {done.returncode}\n{done.stderr[-2000:]}", flush=True)
        if not rows:
            rows = [
                {
                    "name": name,
                    "loop": "-",
                    "warm_up": False,
                    "broke": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:300],
                }
            ]
    for row in rows:
        told = ", ".join(
            f"{status} {rule} at {where} ({when})" for rule, where, status, when, _ in row.get("findings", [])
        )
        state = row.get("broke") or ("learned" if row["learned"] else "did not learn")
        extra = " ".join(
            word
            for word, there in (
                ("OTHER BITS", not row.get("same_bits", True)),
                (f"errors {row.get('errors')}", row.get("errors")),
                (f"missing {row.get('missing')}", row.get("missing")),
            )
            if there
        )
        start = "warm" if row["warm_up"] else "cold"
        print(f"{name:32} {row['loop']:11} {start}  {state:14} {row.get('seconds')} {told} {extra}", flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    order = {key: place for place, key in enumerate(_plan(name, arguments.loop))}
    return sorted([*mine, *rows], key=lambda row: order.get((row["loop"], row["warm_up"]), len(order)))


def main() -> int:
    """Run it; 1 if the watcher did what it must not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a model, or a part of its name")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--loop", action="append", default=[], choices=LOOPS, help="this loop, with a warm-up and without"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="keep the rows as JSON lines; those that are there are not run again")
    parser.add_argument("--done", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        done = {(loop, warm == "1") for loop, warm in (pair.split(":") for pair in arguments.done)}
        _child(arguments.child, arguments.steps, arguments.loop, done)
        return 0
    names = [name for name in CASES if not arguments.only or any(part in name for part in arguments.only)]
    if not names:
        parser.error(f"--only {arguments.only} names none of {', '.join(CASES)}")
    known = []
    if arguments.out and arguments.out.exists():
        known = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    with ThreadPoolExecutor(arguments.processes) as pool:
        rows = [row for made in pool.map(lambda name: _in_a_process(name, arguments, known), names) for row in made]
    return write(rows, CASES, steps=arguments.steps, complete=len(names) == len(CASES))


if __name__ == "__main__":
    sys.exit(main())
