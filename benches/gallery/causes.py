"""What names a cause: whole ids of rules, of this package and of the peers, and after a "~" words of what was seen.

A finding that lists a cause among things to try does not name it: only the id and what was seen are looked at.
"""

from __future__ import annotations

import re

__all__ = ["names"]

FINITE = ("non-?finite", "data-nonfinite", "output_finite", "TA100", r"~\bnan\b", "~not finite")
EXPLODES = ("exploding-gradient", "scale-through-depth", "gradient_magnitude", "TA102", "~explod|explosion")
VANISHES = ("vanishing-gradient", "scale-through-depth", "~vanish")
START = ("poor-initiali[sz]ation", "initial-loss", "initial_loss", "wild-start", "~initialis|initializ")
RATE = ("learning-rate", "update-ratio", "update_ratio", "optimizer-settings", "~learning rate")
DECAYED = ("decayed-rate", "rising-rate", "~schedul", "~rate (was|is|has been) (decayed|0)", *RATE)
WEIGHT_DECAY = (
    "weight-decay",
    "collapsed-weights",
    "fading-weights",
    "~weight decay",
    "~weights? (shrink|fade|collaps)",
)
DEAD = ("dead-.*", "all-zero", "dead_units", "TA103", "TA105", r"~\bdead\b")
SATURATED = ("saturated.*", "saturation", "~saturat")
RANGE = ("output-range", "target-range", "output_range", "~cannot reach")
TARGETS = ("target-scale", "target-range", "initial-loss", "wild-start", "~targets? (are|is|of|range|lie|have)")
INPUTS = ("input-range", "feature-scales", "TA301", "TA302", "input-mean", "~not (normali|standardi)[sz]ed")
CONSTANT_INPUTS = ("constant-features", "duplicate-features", "~constant features?|features? (is|are|never)")
LOSS_INPUT = ("activation-before-loss", "loss-input", "not-log-probabilities", "~log-?(softmax|probabilit)")
LOSS_INPUT += ("~softmax", "~sigmoid", "~probabilit", "loss-sign", "~logits")
LOSS_TARGETS = ("loss-targets", "ignored-targets", "same-targets", "loss-ignores-targets", "one-class")
FLAT = ("flat-loss", "loss-flat", "zero-gradient", "~clip")
SHAPE = ("broadcast-loss", "loss-broadcast", "~broadcast")
REDUCTION = ("loss-reduction", "~reduction|summed|sum over")
ONE_CLASS = (
    "one-class",
    "same-targets",
    "one-class-predicted",
    "class-imbalance",
    "~(one|single) class|majority|imbalance",
)
NOISE = ("generalises", "not-learning", "ignored-targets", "input-ignored", "gradient_noise", "~noise", "~shuffled")
NOT_LEARNING = ("not-learning", "overfit", "overfit_batch", "stalled-training", "input-ignored", "constant-output")
SAME_OUTPUT = ("constant-output", "input-ignored", "output_varies", "input_dependency", "~same output", "~collaps")
SAME_OUTPUT += ("rank_collapse", "dead-output", "unused-input.*")
SYMMETRIC = ("symmetric-units", "symmetric-weights", "~symmetr", "~same as (each|one an)other", "~compute the same")
UNREACHED = (
    "no-gradient",
    "zero-gradient",
    "never-called",
    "unused-.*",
    "~get no gradient",
    "TA500",
    "TA104",
    "~never called",
)
LOST = ("unchanged", "params_change", *UNREACHED)
MIX = ("samples-mix", "softmax-over-batch", "batch_independence", "~mixes|other samples?")
FUTURE = ("future-leaks", "~causal|later (tokens?|positions?)|future")
COPIED = ("leaking-feature", "targets-unshifted", "future-leaks", "~leak|copies|copying|gives .* away")
UNUSED_INPUT = ("input-ignored", "unused-features?", "unused-inputs?", "input_dependency", "features-ignored")
MASK = ("mask-.*", ".*-mask", r"~\bmask(ed)?\b", "~padding")
OPTIMIZER = ("not-in-optimizer", "frozen", "optimizer_coverage", "~not in (the|any) optimizer")
RESET = ("gradients-not-reset", "~zero_grad|added up|accumulat")
THROWN = ("gradients-thrown-away", "skipped-steps", "~thrown away|never used|zero_grad", *LOST)
MODE = ("trained-in-eval-mode", "validated-in-train-mode", "still-statistics", "~(eval|training|train) mode")
STATISTICS = ("batch-norm-statistics", "still-statistics", "train-eval.*", "frozen-norm", "~running (statistics|mean)")
NORM = ("norm-.*", ".*-norm", "layer-norm.*", "~normalis|normaliz", *SAME_OUTPUT)
SIGN = ("loss-sign", "~maximi[sz]e|wrong sign|climb|rises|rising|increas", "optimizer-settings")
CLIPPED = ("clip.*", "~clip", *RATE)
PRECISION = (
    "lost-updates",
    "precision.*",
    "underflow.*",
    "~bfloat16|float16|bf16|rounded|underflow|precision",
    "unchanged",
)
SOFTMAX = ("softmax.*", "attention-.*", "saturated.*", "~softmax|attention|entropy|one-hot")
DROPOUT = ("dropout-.*", "~dropout")
COPIES = ("duplicate-.*", "~identical|copies|equal", *SYMMETRIC)
SHIFT = ("train-eval-gap", "input-shift", "~augment|shift|distribution|noise", "generalises")


def names(causes: tuple[str, ...], rule: str, text: str) -> bool:
    """Whether a finding names one of these causes."""
    for cause in causes:
        if cause.startswith("~"):
            if re.search(cause[1:], text, re.IGNORECASE):
                return True
        elif re.fullmatch(cause, rule):
            return True
    return False
