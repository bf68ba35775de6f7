"""Every public member has a docstring at run time; examples in those of the native module print what they say."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorstats as ts
from tensorstats import _core


def public(module: Any) -> Iterator[tuple[str, Any, str | None]]:
    """Every public name of a module and of its classes, the object, and the docstring of its class."""
    for name in module.__all__:
        thing = getattr(module, name)
        if not (isinstance(thing, type) or inspect.isroutine(thing)):
            continue
        yield name, thing, None
        if isinstance(thing, type):
            for member, value in vars(thing).items():
                if not member.startswith("_"):
                    yield f"{name}.{member}", value, thing.__doc__


@pytest.mark.parametrize("module", [ts, ts.axis, ts.export, _core], ids=lambda module: module.__name__)
def test_every_public_member_has_a_docstring(module: Any):
    lacking = []
    for name, value, of_class in public(module):
        # Fields of a dataclass stand under the Attributes of its class, and a constant says itself what it is.
        listed = of_class is not None and name.split(".")[1] in of_class
        if not (getattr(value, "__doc__", None) or (listed and inspect.ismemberdescriptor(value))):
            lacking.append(name)
    assert lacking == []


def test_help_shows_what_stands_in_the_source():
    assert "mean of the finite values" in inspect.getdoc(ts.Summary.mean).lower()
    assert str(inspect.signature(ts.Summary.std)) == "(self, /, correction=0.0)"


def examples() -> dict[str, str]:
    """The docstrings of the native module that hold examples."""
    return {name: value.__doc__ for name, value, _ in public(_core) if ">>>" in (getattr(value, "__doc__", None) or "")}


@pytest.mark.parametrize("name", sorted(examples()))
def test_examples_of_the_native_module(name: str):
    test = doctest.DocTestParser().get_doctest(examples()[name], {}, name, None, None)
    with np.printoptions(legacy=False):
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.attempted > 0
    assert result.failed == 0
