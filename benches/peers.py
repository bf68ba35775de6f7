"""The race of `tensorstats` against its peers: one command, every peer in a process of its own, every answer checked.

    python benches/peers.py --quick                    # seconds; checks that all works
    python benches/peers.py --readme                   # the table of benches/README.md
    python benches/peers.py --dtypes bfloat16 --sizes 1GiB --peers tensorstats torch.sum

The processes stay alive and take turns, case by case and round by round, so that a slow phase of the machine hits all
of them alike. Each also times a plain read of its own buffer. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

# Found only through the path set above, hence not at the top.
from race.check import wrong_fields  # noqa: E402
from race.data import DTYPES, LOOKS, Case, exact  # noqa: E402
from race.registry import PEERS, by_name  # noqa: E402
from race.report import grid, markdown, plot  # noqa: E402

MARKERS = ("<!-- peers: begin -->", "<!-- peers: end -->")
SIZES = ("4KiB", "64KiB", "1MiB", "32MiB", "256MiB", "1GiB")
QUICK_SIZES = ("4KiB", "64KiB")
THREAD_VARIABLES = (
    *("TENSORSTATS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"),
)


class Racer:
    """The process of one peer."""

    def __init__(self, name: str, threads: int | None) -> None:
        self.name = name
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        if threads is not None:
            environment |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        command = [sys.executable, "-m", "race.worker", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE
        )
        self.hello = self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"missing": f"its process ended with status {self.process.wait()}"}
        message: dict[str, Any] = json.loads(line)
        return message

    def run(self, case: Case, budget: float, samples: int) -> dict[str, Any]:
        if self.process.poll() is not None:
            return {"unsupported": f"its process ended with status {self.process.returncode}"}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"case": case.to_dict(), "budget": budget, "samples": samples}) + "\n")
        self.process.stdin.flush()
        reply = self._receive()
        return {"unsupported": reply["missing"]} if "missing" in reply else reply

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(timeout=60)
        self.process.stdout.close()


def parse_size(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"a size is a number and KiB, MiB or GiB, got: {text}")
    return int(match[1]) << {"KiB": 10, "MiB": 20, "GiB": 30}[match[2]]


def plan(arguments: argparse.Namespace) -> list[Case]:
    """What to run: the cross product of what was asked for, else the cases of the table in the README."""
    sizes = [parse_size(text) for text in (QUICK_SIZES if arguments.quick else SIZES)]
    if arguments.sizes or arguments.dtypes or arguments.looks:
        chosen = itertools.product(
            arguments.works, arguments.dtypes or ["float32"], arguments.looks or ["normal"], arguments.sizes or sizes
        )
        cases = [Case(*choice) for choice in chosen]
        # An int8 is never NaN nor subnormal.
        return [case for case in cases if case.dtype != "int8" or case.look not in ("nan", "subnormal")]
    middle, large = (sizes[0], sizes[-1]) if arguments.quick else (parse_size("32MiB"), parse_size("256MiB"))
    cases = [Case("summary", "float32", "normal", size) for size in sizes]
    cases += [Case("summary", dtype, "normal", large) for dtype in DTYPES[1:]]
    cases += [Case("summary", "float32", look, middle) for look in LOOKS if look != "normal"]
    cases += [Case("histogram", "float32", "normal", size) for size in (middle, large)]
    return [case for case in cases if case.work in arguments.works]


def machine(threads: int | None) -> dict[str, str]:
    model = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = re.search(r"model name\s*:\s*(.+)", information.read_text())
        model = found[1] if found else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    import tensorstats as ts

    level = ts.simd_level()
    return {
        "Machine": f"{model}, {cores} cores",
        "System": platform.platform(),
        "Python": platform.python_version(),
        "tensorstats": f"{ts.__version__}, {level.name} ({level.reason})",
        "Threads": str(threads) if threads is not None else "as many as each peer takes",
        "Date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def race(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs everything; the result is what --out writes."""
    wanted = [by_name(name) for name in arguments.peers] if arguments.peers else PEERS
    cases = [case for case in plan(arguments) if any(peer.work == case.work for peer in wanted)]
    works = {case.work for case in cases}
    racers = [Racer(peer.name, arguments.threads) for peer in wanted if peer.work in works]
    missing = {racer.name: racer.hello["missing"] for racer in racers if "missing" in racer.hello}
    racers = [racer for racer in racers if racer.name not in missing]
    results: dict[str, Any] = {
        "machine": machine(arguments.threads),
        "peers": {racer.name: racer.hello["version"] for racer in racers},
        "missing": missing,
        "cases": [],
    }
    try:
        for case in cases:
            results["cases"].append(run_case(case, racers, arguments))
            if arguments.out:
                # After every case: a race that is stopped has lost nothing.
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        for racer in racers:
            racer.close()
    return results


def run_case(case: Case, racers: list[Racer], arguments: argparse.Namespace) -> dict[str, Any]:
    truth = exact(case)
    peers: dict[str, Any] = {}
    for _ in range(arguments.rounds):
        for racer in racers:
            if by_name(racer.name).work != case.work:
                continue
            entry = peers.setdefault(racer.name, {"rounds": [], "rulers": []})
            if "unsupported" in entry:
                continue
            reply = racer.run(case, arguments.budget, arguments.samples)
            if "unsupported" in reply:
                entry["unsupported"] = reply["unsupported"]
                continue
            entry["rounds"].append(reply["seconds"])
            entry["rulers"].append(reply["rulers"])
            entry["extra_bytes"] = reply["extra_bytes"]
            entry["fields"] = list(reply["answer"])
            entry["wrong"] = wrong_fields(racer.name, reply["answer"], truth)
            if entry["wrong"] and racer.name.startswith("tensorstats"):
                raise SystemExit(f"error: {case}: {racer.name} broke a promise: {entry['wrong']}")
    print(f"{case}: {sum(1 for entry in peers.values() if entry['rounds'])} of {len(peers)} peers", file=sys.stderr)
    return {"case": case.to_dict(), "peers": peers}


def write_readme(table: str) -> None:
    """Puts the table between its markers in benches/README.md."""
    path = HERE / "README.md"
    text = path.read_text()
    begin, end = (text.index(marker) for marker in MARKERS)
    path.write_text(f"{text[: begin + len(MARKERS[0])]}\n{table}{text[end:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: only checks answers")
    parser.add_argument("--sizes", nargs="+", type=parse_size, help=f"default: {' '.join(SIZES)}")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES)
    parser.add_argument("--looks", nargs="+", choices=tuple(LOOKS))
    parser.add_argument("--works", nargs="+", choices=("summary", "histogram"), default=["summary", "histogram"])
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS])
    parser.add_argument("--threads", type=int, help="threads for every peer; default: what each takes by itself")
    parser.add_argument("--rounds", type=int, help="turns of every peer at every case; default 5, with --quick 1")
    parser.add_argument("--budget", type=float, help="seconds of samples a turn; default 0.5, with --quick 0.01")
    parser.add_argument("--samples", type=int, help="most samples a turn; default 50, with --quick 3")
    parser.add_argument("--out", type=Path, help="write all results as JSON, after every case")
    parser.add_argument("--plot", type=Path, help="write a picture (PNG)")
    parser.add_argument("--grid", action="store_true", help="print dtypes and looks as one table of ours alone")
    parser.add_argument("--readme", action="store_true", help="put the table into benches/README.md")
    arguments = parser.parse_args()
    if arguments.grid and arguments.readme:
        parser.error("--readme writes the table of all peers; leave out --grid")
    if arguments.quick and arguments.readme:
        parser.error("--quick gives no times to publish; leave out --quick or --readme")
    for name, value, quick in (("rounds", 5, 1), ("budget", 0.5, 0.01), ("samples", 50, 3)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else value)

    results = race(arguments)
    table = grid(results) if arguments.grid else markdown(results)
    print(table)
    if arguments.plot:
        plot(results, arguments.plot)
    if arguments.readme:
        write_readme(table)


if __name__ == "__main__":
    main()
