"""Draws docs/step.png, the timeline of a watched training step: ``python docs/draw_step.py``; reads nothing."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

# What the loop does, from left to right: label, start, width, colour.
PHASES = [
    ("zero_grad", 0.0, 1.2, "#d9d9d9"),
    ("model(batch)", 1.3, 3.0, "#9ecae1"),
    ("loss", 4.4, 0.9, "#d9d9d9"),
    ("loss.backward()", 5.4, 3.0, "#fdae6b"),
    ("unscale, clip", 8.5, 1.6, "#d9d9d9"),
    ("optimizer.step()", 10.2, 2.4, "#a1d99b"),
]

# What is read: label, moment, level below the line.
READINGS = [
    ("inputs, outputs\nas each module returns", 2.8, 1),
    ("losses\nlog_loss(loss)", 4.85, 2),
    ("output_gradients\nas they arrive, last module first", 6.7, 1),
    ("raw_gradients\nas backward leaves them", 8.3, 2),
    ("gradients, and a copy of the weights\nright before the step", 10.2, 1),
    ("parameters, updates, optimizer_state,\nlearning_rates; the rules judge", 12.6, 3),
]


def draw(path: Path) -> None:
    """Write the picture."""
    figure, axes = plt.subplots(figsize=(12, 4.0), dpi=110)
    for label, start, width, colour in PHASES:
        box = FancyBboxPatch((start, 0), width, 0.8, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="none")
        axes.add_patch(box)
        axes.text(start + width / 2, 0.4, label, ha="center", va="center", fontsize=10, family="monospace")
    for label, moment, level in READINGS:
        depth = -0.75 - 0.95 * (level - 1)
        axes.annotate("", (moment, -0.02), (moment, depth), arrowprops={"arrowstyle": "-|>", "color": "#444444"})
        align = "right" if moment > 12 else "center"
        axes.text(moment + (0.15 if moment > 12 else 0), depth - 0.06, label, ha=align, va="top", fontsize=9.5)
    axes.text(0, 1.12, "one recorded step of ts.watch(model, optimizer)", fontsize=11, weight="bold")
    axes.set(xlim=(-0.1, 12.9), ylim=(-3.4, 1.4))
    axes.set_axis_off()
    figure.savefig(path, bbox_inches="tight", facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("step.png"))
