"""The network of the demo; knows neither the data nor the bugs."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

__all__ = ["HIDDEN_LAYERS", "network"]

PIXELS = 64
DIGITS = 10
WIDTH = 64

# Deep enough for gradients to vanish behind sigmoids, and no trouble for ReLUs with the right initialisation.
HIDDEN_LAYERS = 6


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Six hidden layers ``hidden1, act1, ... hidden6, act6`` and a ``head``: ``[N, 1, 8, 8]`` images to ten classes.

    ReLU layers are initialised for ReLU (He et al. 2015); other activations get torch's default, as most models in the
    wild do.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = PIXELS
    for number in range(1, HIDDEN_LAYERS + 1):
        linear = nn.Linear(inputs, WIDTH)
        if activation is nn.ReLU:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        layers[f"hidden{number}"] = linear
        layers[f"act{number}"] = activation()
        inputs = WIDTH
    layers["head"] = nn.Linear(inputs, DIGITS)
    return nn.Sequential(layers)
