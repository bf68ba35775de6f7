"""Named groups of tensors (weights, biases, gradients, ...), to choose what is recorded; reads no values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["COLLECTIONS", "DEFAULT_SIGNALS", "SCALARS", "SIGNALS", "Collection", "resolve_collections"]

SIGNALS = (
    "outputs",
    "parameters",
    "gradients",
    "updates",
    "inputs",
    "output_gradients",
    "raw_gradients",
    "optimizer_state",
)
DEFAULT_SIGNALS = SIGNALS[:4]
SCALARS = ("losses", "learning_rates")


@dataclass(frozen=True, slots=True)
class Collection:
    """Some tensors of some signals.

    Parameters
    ----------
    name : str
    signals : tuple of str
        Of the signals of ``ts.watch``.
    include : str or callable, optional
        A regular expression that must match somewhere in the tensor's name, or a function ``name -> bool``; all tensors
        of the signals without it.

    Examples
    --------
    >>> attention = Collection("attention", ("outputs", "gradients"), r"attn")
    >>> attention.takes("outputs", "blocks.0.attn.proj"), attention.takes("outputs", "blocks.0.mlp")
    (True, False)
    """

    name: str
    signals: str | tuple[str, ...]
    include: str | Callable[[str], bool] | None = None

    def __post_init__(self) -> None:
        signals = (self.signals,) if isinstance(self.signals, str) else tuple(self.signals)
        unknown = [signal for signal in signals if signal not in (*SIGNALS, *SCALARS)]
        if unknown or not signals:
            raise ValueError(
                f"signals of the collection {self.name!r} must be of {', '.join((*SIGNALS, *SCALARS))}, "
                f"got {', '.join(unknown) or 'none'}"
            )
        object.__setattr__(self, "signals", signals)
        if isinstance(self.include, str):
            re.compile(self.include)

    def takes(self, signal: str, name: str) -> bool:
        """Whether a tensor belongs to it."""
        if signal not in self.signals:
            return False
        if self.include is None:
            return True
        if isinstance(self.include, str):
            return re.search(self.include, name) is not None
        return bool(self.include(name))


COLLECTIONS = {
    collection.name: collection
    for collection in (
        Collection("weights", ("parameters",), r"weight[^.]*$"),
        Collection("biases", ("parameters",), r"bias[^.]*$"),
        Collection("gradients", ("gradients",)),
        Collection("updates", ("updates",)),
        Collection("activations", ("outputs",)),
        Collection("inputs", ("inputs",)),
        Collection("optimizer_state", ("optimizer_state",)),
        Collection("losses", ("losses",)),
    )
}


def resolve_collections(collections: Iterable[str | Collection] | None) -> tuple[Collection, ...] | None:
    """The collections given by name or made by the user.

    Raises
    ------
    ValueError
        For a name that is not built in.
    TypeError
        For anything else.
    """
    if collections is None:
        return None
    resolved = []
    for given in [collections] if isinstance(collections, (str, Collection)) else collections:
        if isinstance(given, Collection):
            resolved.append(given)
        elif not isinstance(given, str):
            raise TypeError(f"a collection must be a name or a Collection, got {type(given).__name__}")
        elif given not in COLLECTIONS:
            raise ValueError(f"collections must be Collection(...) or of {', '.join(COLLECTIONS)}, got {given!r}")
        else:
            resolved.append(COLLECTIONS[given])
    return tuple(resolved)
