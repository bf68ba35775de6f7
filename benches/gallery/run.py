"""Runs the gallery under the tools, prints the scoreboard, keeps what was measured; ``make scoreboard`` calls it.

Every run is a line of ``benches/results/scoreboard.jsonl``, and is not made again while the program and the tool are
the same. ``docs/scoreboard.md`` is written when every program was run with every tool.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import inspect
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from gallery import score, table, worker  # noqa: E402 - the folder above is on the path only now
from gallery.program import PROGRAMS  # noqa: E402 - the folder above is on the path only now
from gallery.split import half  # noqa: E402 - the folder above is on the path only now

ROOT = HERE.parent.parent
RESULTS = ROOT / "benches" / "results"
SHARED = ("data", "models", "loops", "worker")


def _digest(*texts: bytes) -> str:
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


@cache
def _shared() -> bytes:
    return b"".join((HERE / f"{name}.py").read_bytes() for name in SHARED)


@cache
def _of_tool(tool: str) -> bytes:
    adapter = inspect.getsource(worker.TOOLS[tool])
    if tool == "nothing":
        return adapter.encode()
    if tool == "tensorstats":
        import tensorstats

        folder = Path(inspect.getfile(tensorstats)).parent
        return adapter.encode() + b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))
    return (importlib.metadata.version(tool) + adapter).encode()


@cache
def _of_program(name: str) -> bytes:
    """What a program does and what its file has beside programs; other words for a cause are no other run."""
    main = PROGRAMS[name].main
    tree = ast.parse(Path(inspect.getfile(main)).read_bytes())
    kept = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            if node.name != main.__name__:
                continue
            node.decorator_list = []
        if not isinstance(node, ast.Import | ast.ImportFrom):
            kept.append(ast.unparse(node))
    return "\n".join(kept).encode()


@cache
def _key(tool: str, name: str, seed: int) -> str:
    """The same as long as the program, what it uses and the tool are the same."""
    return _digest(tool.encode(), name.encode(), str(seed).encode(), _shared(), _of_program(name), _of_tool(tool))


def _task(task: tuple[str, str, int, str]) -> dict[str, Any]:
    return {**worker.run(*task[:3]), "key": task[3]}


def _rows(tasks: list[tuple[str, str, int]], kept: Path, processes: int) -> Iterator[dict[str, Any]]:
    """Known rows first, then those that are made now, which are kept as they come."""
    known = {}
    if kept.exists():
        for text in kept.read_text().splitlines():
            row = json.loads(text)
            known[row["key"]] = row
    left = [(*task, _key(*task)) for task in tasks if _key(*task) not in known]
    yield from (known[_key(*task)] for task in tasks if _key(*task) in known)
    if not left:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=worker.begin) as pool, kept.open("a") as file:
        for number, row in enumerate(pool.imap_unordered(_task, left), 1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            if number % 50 == 0 or number == len(left):
                print(f"{number} of {len(left)} runs", file=sys.stderr, flush=True)
            yield row


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 1 if a healthy program did not learn, which would make the scoreboard worthless."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a program, or a part of its name")
    parser.add_argument("--half", choices=("tuning", "kept"), help="the programs of one half")
    parser.add_argument("--tool", action="append", default=[], choices=[*worker.TOOLS], help="all unless given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--kept", type=Path, default=RESULTS / "scoreboard.jsonl", help="where single runs are kept")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "scoreboard.md")
    options = parser.parse_args(arguments)
    tools = list(dict.fromkeys(["nothing", *(options.tool or worker.TOOLS)]))
    names = [
        name
        for name in PROGRAMS
        if (not options.only or any(part in name for part in options.only)) and options.half in (None, half(name))
    ]
    if not names:
        parser.error(f"--only {options.only} names none of {', '.join(PROGRAMS)}")
    tasks = [(tool, name, seed) for name in names for tool in tools for seed in range(options.seeds)]
    rows = list(_rows(tasks, options.kept, options.processes))
    halves = [which for which in table.HALVES if options.half in (None, which)]
    print(table.totals(rows, tools, halves))
    for tool in tools[1:] if options.half != "kept" and (options.only or len(tools) == 2) else []:
        print(table.details(rows, tool))
    lost = [one.program.name for one in score.verdicts(rows, "nothing") if one.program.is_healthy and not one.learned]
    if lost:
        print(f"healthy programs that did not learn: {', '.join(lost)}")
    if len(names) == len(PROGRAMS) and set(tools) == set(worker.TOOLS):
        options.page.write_text(table.page(rows, tools, range(options.seeds)))
        counted = [asdict(score.line(rows, tool, which)) for which in table.HALVES for tool in tools[1:]]
        (RESULTS / "scoreboard.json").write_text(json.dumps(counted, indent=1) + "\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
