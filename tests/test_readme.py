"""Owns the test that code in the README and in docs/ prints what stands below it, and that every docstring's does."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import itertools
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import tensorstats as ts

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WITHOUT_CODE = {"CONTRIBUTING.md", "architecture.md", "glossary.md"}
BLOCK = re.compile(r"```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in WITHOUT_CODE], ids=lambda page: page.name)
def test_the_code_prints_what_stands_below_it(page: Path):
    blocks = [(match["language"], match["text"]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    names: dict[str, object] = {}
    for (language, code), (following, shown) in itertools.pairwise([*blocks, ("", "")]):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), names)
        # What prints nothing needs no block of output below it.
        assert printed.getvalue() == (shown if following == "text" else "")
    assert names, "a page without code to run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_picture_and_the_links_exist(page: Path):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(ts.__path__, "tensorstats.")]
    return [name for name in found if not name.endswith(("__main__", "_core"))]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name: str):
    module = importlib.import_module(name)
    with np.printoptions(legacy=False):
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_some_docstrings_have_examples():
    counted = [doctest.DocTestFinder().find(importlib.import_module(name)) for name in modules()]
    assert sum(bool(example.examples) for examples in counted for example in examples) > 10


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_files_that_a_page_names_exist(page: str):
    roots = [ROOT, *(ROOT / folder for folder in ("rust/core/src", "rust/py/src", "python/tensorstats")), ROOT / "docs"]
    roots += [ROOT / "python/tensorstats/torch", ROOT / "rust/core/src/summary", ROOT / "rust/core/src/histogram"]
    roots += [ROOT / "rust/py/src/states/summary"]
    named = re.findall(r"`([\w/.{},]+\.(?:rs|py|pyi|md))`", (ROOT / page).read_text(encoding="utf-8"))
    assert len(named) > 10
    for name in named:
        stem, _, rest = name.partition("{")
        inner, _, end = rest.partition("}")
        for path in [f"{stem}{part}{end}" for part in inner.split(",")] if rest else [name]:
            assert any((root / path).exists() for root in roots), path
