"""The rooms of rust/py: who uses whom, and what of the package the native module asks for by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "rust" / "py" / "src"
PACKAGE = Path(__file__).parent.parent / "python" / "tensorstats"
FILES = {path.relative_to(SOURCES).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.rs")}

MAY_USE: dict[str, set[str]] = {
    "errors": set(),
    "package": set(),
    "tables": set(),
    "arrays": {"errors", "package"},
    "memory": {"errors", "package"},
    "run": {"errors", "memory"},
    "settings": {"errors", "run"},
    "states": {"arrays", "errors", "memory", "package", "run"},
    "calls": {"arrays", "errors", "memory", "package", "run", "states"},
}


def test_rooms_use_only_what_is_below_them():
    assert {name.split("/")[0].removesuffix(".rs") for name in FILES} == MAY_USE.keys() | {"lib"}
    for name, text in FILES.items():
        room = name.split("/")[0].removesuffix(".rs")
        if room != "lib":
            assert set(re.findall(r"crate::(\w+)", text)) <= MAY_USE[room] | {room}, name


def uses(text: str) -> set[str]:
    """The files that a file uses, by their modules' names."""
    return {found.replace("::", "/") for found in re.findall(r"crate::((?:[a-z_]+::)*[a-z_]+)", text)}


def test_no_files_use_each_other_in_a_circle():
    modules = {name.removesuffix(".rs").removesuffix("/mod"): text for name, text in FILES.items()}
    below = {
        module: {other for other in modules for use in uses(text) if use == other or use.startswith(f"{other}/")}
        - {module}
        for module, text in modules.items()
    }
    # A file in a folder may be used by the file that the folder is named after, which declares it.
    for module in modules:
        below[module] -= {other for other in modules if module.startswith(f"{other}/")}
    reached = {module: set(others) for module, others in below.items()}
    for _ in modules:
        for others in reached.values():
            others |= {far for near in tuple(others) for far in reached[near]}
    assert [module for module, others in reached.items() if module in others] == []


def test_the_package_is_asked_for_nothing_above_the_native_module():
    """By name only what is below it, and the door to other devices; `_arrays` hands itself over.

    The others are where classes say they are.
    """
    named = set(re.findall(r'"tensorstats\.([\w.]+)"', "\n".join(FILES.values())))
    assert named == {"_bins", "_formats", "_core", "axis", "device.door"}


def test_what_is_called_of_the_door_is_there():
    """A misspelt name would be noticed on a device alone."""
    called = set(re.findall(r'(?:door|begin)\(\s*(?:[\w.()]+, )+"(\w+)"', "\n".join(FILES.values())))
    tree = ast.parse((PACKAGE / "device" / "door.py").read_text(encoding="utf-8"))
    assert called == {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}


@pytest.mark.parametrize("word", ["plot", "wandb", "tensorboard", "matplotlib", "prometheus"])
def test_the_binding_knows_no_exporter_and_no_picture(word: str):
    assert [found for found in re.findall(r'"[^"\n]*"', "\n".join(FILES.values())) if word in found] == []
