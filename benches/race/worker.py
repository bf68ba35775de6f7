"""One process that times one peer: cases come in as lines of JSON, results go out. Knows nothing of other peers."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from race.adapter import Peer, UnsupportedError, torch_tensor
from race.data import Case, fill
from race.registry import by_name

if TYPE_CHECKING:
    from collections.abc import Callable

# A sample shorter than this is mostly the clock.
SHORTEST_SAMPLE = 2e-4


def measure(function: Callable[[], Any], budget: float, samples: int) -> list[float]:
    """Seconds per call, several times: at least three samples, then as many as the budget pays."""
    start = time.perf_counter()
    function()
    once = time.perf_counter() - start
    calls = max(1, math.ceil(SHORTEST_SAMPLE / max(once, 1e-8)))
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < 3 or (len(taken) < samples and time.perf_counter() - began < budget):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        taken.append((time.perf_counter() - start) / calls)
    return taken


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def extra_memory(function: Callable[[], Any]) -> int | None:
    """Bytes by which one call raises the peak of resident memory; None where the system does not say."""
    gc.collect()
    try:
        # Resets the high-water mark to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        function()
        return max(0, _status("VmHWM") - before)
    except OSError:
        return None


def rulers(peer: Peer, array: np.ndarray, budget: float, samples: int) -> dict[str, float]:
    """Times of plain reads in this very process, of this very buffer, so that ratios need no other process."""
    words = array.view(np.uint8)[: array.nbytes // 8 * 8].view(np.uint64)
    found = {"plain read": statistics.median(measure(lambda: np.bitwise_or.reduce(words), budget, samples))}
    if peer.ruler:
        import torch

        # torch cannot sum fp8; its bytes take the same reading.
        x = torch_tensor(array.view(np.uint8) if array.dtype.name == "float8_e4m3fn" else array)
        found["torch.sum"] = statistics.median(measure(lambda: torch.sum(x), budget, samples))
    return found


def run_case(peer: Peer, case: Case, budget: float, samples: int) -> dict[str, Any]:
    array = fill(case)
    function = peer.prepare(case, array)
    answer = peer.answer(function())
    function()
    seconds = measure(function, budget, samples)
    extra = extra_memory(function)
    # Last: torch's threads spin for a while after their work, which would disturb the peer.
    ruler = rulers(peer, array, budget, samples)
    return {"seconds": seconds, "rulers": ruler, "answer": answer, "extra_bytes": extra}


def main() -> None:
    # Libraries may print; the pipe to the parent must hold nothing but results.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        pipe.write(json.dumps(message, default=float) + "\n")
        pipe.flush()

    kind = by_name(sys.argv[1])
    try:
        version = kind.version()
        peer = kind()
    except (ImportError, importlib.metadata.PackageNotFoundError, UnsupportedError) as error:
        send({"missing": f"{type(error).__name__}: {error}"})
        return
    send({"version": version})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            send(run_case(peer, Case(**request["case"]), request["budget"], request["samples"]))
        except UnsupportedError as error:
            send({"unsupported": str(error)})
        except Exception as error:  # a peer may fail in any way; that is a result
            send({"unsupported": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"})


if __name__ == "__main__":
    main()
