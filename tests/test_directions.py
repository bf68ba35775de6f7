"""Who may import whom: the rooms of the Python package, and no circle of files, typing-only imports included."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tensorstats

ROOT = Path(tensorstats.__file__).parent

# Every room, and those that its files may import beside their own. Lower rooms come first.
_BASE = {"results", "core", "arrays"}
_COUNT = _BASE | {"device"}
ALLOWED: dict[str, set[str]] = {
    "results": set(),
    "core": {"results"},
    "arrays": {"results", "core"},
    "device": _BASE,
    "functions": _BASE,
    "rules": {"results", "core"},
    "report": {"results", "core", "rules"},
    "run": {"results", "core", "rules", "report"},
    "torch/attach": _COUNT | {"rules", "run"},
    "torch/record": _COUNT | {"rules", "run", "torch/attach"},
    "torch/ranks": _COUNT | {"rules", "run", "torch/attach", "torch/record"},
    "torch": _COUNT | {"functions", "rules", "run", "torch/attach", "torch/record", "torch/ranks"},
    "preflight/subject": set(),
    "preflight/checks": {"rules", "preflight/subject"},
    "preflight": {"rules", "report", "preflight/subject", "preflight/checks"},
    "export": _BASE | {"functions"},
    "plot": _BASE | {"functions"},
    "integrations": {"core", "rules", "run", "torch", "torch/attach"},
    "demo": {"root", "torch", "report", "plot", "rules"},
    "cli": {"root", "demo", "rules"},
    "root": _BASE | {"functions", "rules", "torch", "preflight", "export", "plot", "integrations", "cli"},
}

# The names that the callbacks had before stay until 1.0.
_OLD_NAMES = {"tensorstats.torch.lightning", "tensorstats.torch.transformers"}
_ARRAYS = {"_arrays", "_openmp", "axis"}
_RESULTS = {"_bins", "_formats", "_text"}  # plain classes, two of which the native module makes
_ROOT = {"__main__", "_methods"}  # put together with the package itself


def _modules() -> dict[str, Path]:
    found = {"tensorstats._core": ROOT / "_core.pyi"}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("tensorstats", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def room_of(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts or parts[0] in _ROOT or module in _OLD_NAMES:
        return "root"
    for room, names in (("core", {"_core"}), ("arrays", _ARRAYS), ("results", _RESULTS)):
        if parts[0] in names:
            return room
    folder = parts if MODULES[module].name == "__init__.py" else parts[:-1]
    return "/".join(folder) or "functions"


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {package}"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else str(node.module)


def _arrows() -> dict[str, set[str]]:
    """By module, what it imports, also inside functions and for types alone."""
    arrows = {}
    for module, path in MODULES.items():
        named = _named(ast.parse(path.read_text(encoding="utf-8")), module)
        arrows[module] = {name for name in named if name in MODULES and name != module}
    return arrows


ARROWS = _arrows()


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_lies_below_it(room: str):
    wrong = [
        f"{module} imports {name} of {room_of(name)}"
        for module, names in ARROWS.items()
        if room_of(module) == room
        for name in sorted(names)
        if room_of(name) not in ALLOWED[room] | {room}
    ]
    assert wrong == []


def test_every_file_lies_in_a_known_room():
    assert {room_of(module) for module in MODULES} <= set(ALLOWED)


def test_no_files_import_each_other_in_a_circle():
    left = {module: set(names) for module, names in ARROWS.items()}
    while True:
        named = set().union(*left.values())
        ends = {module for module, names in left.items() if not names & left.keys() or module not in named}
        if not ends:
            break
        left = {module: names for module, names in left.items() if module not in ends}
    assert sorted(left) == []


def test_rooms_without_torch_load_none_in_a_fresh_process():
    names = [module for module in MODULES if room_of(module) in {"functions", "rules", "report", "run"}]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert set(names) <= loaded
    rooms = {room_of(module) for module in loaded & MODULES.keys()}
    assert rooms <= {"root", "results", "core", "arrays", "functions", "rules", "report", "run"}
    assert "torch" not in loaded
