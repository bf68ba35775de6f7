"""The checks on what the user expects of the model's size."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject

__all__ = ["Expected"]

_LAYERS = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
    nn.Bilinear,
)


class Expected(Check):
    """Numbers of layers and parameters that are not those that were expected."""

    id = "expected-size"
    asks = "has the model the layers and parameters that you expect?"
    advice = "Print the model: is a layer missing, shared, or built twice?"

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Compare what there is with ``expect``: modules that hold weights, and numbers that take gradients or not."""
        if not subject.expect:
            raise Skip('no expect={"layers": ..., "parameters": ...} was given')
        found = {
            "layers": sum(isinstance(module, _LAYERS) for module in subject.model.modules()),
            "parameters": sum(p.numel() for p in subject.model.parameters()),
        }
        for what, expected in subject.expect.items():
            note = f"It has {found[what]:,} {what}; {expected:,} were expected."
            yield Measurement("(model)", abs(found[what] - expected), note)
