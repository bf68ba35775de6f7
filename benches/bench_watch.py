"""What watching a training costs: ours and other ways, each against the bare training in the same process.

    python benches/bench_watch.py --quick              # small models; checks that all works
    python benches/bench_watch.py --readme             # the tables of benches/README.md
    python benches/bench_watch.py --trainings MLP --ways "ts.watch, every step" --seconds 40

Every case has a process of its own, for some ways put hooks on all of torch. In it two copies of one training, bare and
watched, take turns block by block in random order; their losses must be the same to the last bit. Results are added to
a file, so that a long bench can be run in pieces. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

# Found only through the path set above, hence not at the top.
from watching.report import markdown  # noqa: E402
from watching.trainings import TRAININGS  # noqa: E402
from watching.ways import WAYS  # noqa: E402

MARKERS = ("<!-- watch: begin -->", "<!-- watch: end -->")
MEMORY_WAYS = ("bare", "ts.watch, every step", "ts.watch, every step, histograms")


def measure(training: str, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """One case in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, "-m", "watching.measure", training, way, str(out)]
        command += ["--seconds", str(options.seconds), "--steps", str(options.steps)]
        command += ["--quick"] if options.quick else []
        # The peers print banners and progress; their words are shown only when something went wrong.
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
        if done.returncode or not out.exists():
            sys.stderr.write(done.stdout + done.stderr)
            raise SystemExit(f"error: {training}, {way}: the process ended with status {done.returncode}")
        result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return result


def machine() -> list[str]:
    """The lines that say where the numbers were taken."""
    import torch

    import tensorstats
    from tensorstats import _core

    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    return [
        f"Machine: {processor}, {os.cpu_count()} cores  ",
        f"System: {platform.platform()}, Python {platform.python_version()}, torch {torch.__version__}  ",
        f"tensorstats: {tensorstats.__version__}, {_core.simd_level()[0]}  ",
        f"Date: {datetime.date.today().isoformat()}",
    ]


def write_readme(text: str) -> None:
    """Put `text` between the markers."""
    path = HERE / "README.md"
    readme = path.read_text(encoding="utf-8")
    begin, end = MARKERS
    replaced, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", readme, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"error: {path} must hold {begin} ... {end} once, found {count} times")
    path.write_text(replaced, encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small models and few pairs: whether it works, not what it costs"
    )
    parser.add_argument("--readme", action="store_true", help="write the tables into benches/README.md")
    parser.add_argument("--trainings", nargs="*", choices=[*TRAININGS, "memory"], default=[*TRAININGS, "memory"])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seconds", type=float, help="of timed pairs per case (default: 20, quick: 0.3)")
    parser.add_argument("--steps", type=int, help="of the memory run (default: 10000, quick: 200)")
    parser.add_argument("--out", type=Path, help="JSON file to which results are added")
    options = parser.parse_args()
    options.seconds = options.seconds if options.seconds is not None else (0.3 if options.quick else 20.0)
    options.steps = options.steps if options.steps is not None else (200 if options.quick else 10_000)
    return options


def main() -> int:
    options = arguments()
    results: list[dict[str, Any]] = []
    if options.out is not None and options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    cases = [
        (training, way)
        for training in options.trainings
        for way in options.ways
        if training != "memory" or way in MEMORY_WAYS
    ]
    for training, way in cases:
        result = measure(training, way, options)
        results = [old for old in results if (old["training"], old["way"]) != (training, way)] + [result]
        shown = f"{result['cost'] * 100:+.2f} %" if "cost" in result else result.get("missing", result.get("resident"))
        print(f"{training}, {way}: {shown} {result.get('problem', '')}", file=sys.stderr)
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    text = markdown(results)
    print(text)
    if options.readme:
        write_readme("\n".join([*machine(), "", text]))
    wrong = [result for result in results if result["way"].startswith("ts.") and _is_wrong(result)]
    return 1 if wrong else 0


def _is_wrong(result: dict[str, Any]) -> bool:
    return bool(result.get("problem")) or not result.get("same_losses", True)


if __name__ == "__main__":
    sys.exit(main())
