"""Threads at the end of a process: daemon threads that are still counting, exit handlers, modules being torn down."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

SETUP = """
import numpy as np
import tensorstats as ts

# Large enough for two threads, and for the count to run without the interpreter lock.
big = np.ones(1 << 20, dtype=np.float32)
expected = ts.summary(big, threads=1).to_bytes()


def right() -> None:
    assert ts.summary(big, threads=3).to_bytes() == expected
    assert ts.summary(big[:1000], threads=3).sum == 1000
"""

ENDINGS = {
    "daemon": """
        import threading
        started = threading.Barrier(3)

        def count() -> None:
            started.wait()
            while True:
                right()

        for _ in range(2):
            threading.Thread(target=count, daemon=True).start()
        started.wait()
        right()
        print("end", flush=True)
    """,
    "atexit": """
        import atexit

        def last() -> None:
            right()
            print("end", flush=True)

        atexit.register(last)
    """,
    "teardown": """
        class Last:
            def __init__(self) -> None:
                self.right, self.print = right, print

            def __del__(self) -> None:
                self.right()
                self.print("end", flush=True)

        last = Last()
    """,
    "not joined": """
        import threading

        def count() -> None:
            threading.main_thread().join()
            right()
            print("end", flush=True)

        threading.Thread(target=count).start()
    """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_well(ending: str):
    code = SETUP + textwrap.dedent(ENDINGS[ending])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
