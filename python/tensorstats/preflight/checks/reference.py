"""The comparison with scikit-learn's plain models on the same features, on request; scikit-learn is imported here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.checks.data import subject_is_classification
from tensorstats.preflight.subject.batch import leaves

__all__ = ["Reference"]

_FEWEST_SAMPLES = 30
_STEPS = 200


class Reference(Check):
    """A model that is beaten by a linear one on samples neither has seen."""

    id = "reference"
    asks = "does the model do as well as a linear one, after a short training?"
    status = "warning"
    default_limit = 0.1
    why = "A plain model is a lower bound that a network should meet soon."
    advice = "Start from the plain model, and find out what the network loses on the way."

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Fit both on two thirds; take by how much the linear one is better on the rest: accuracy, or R2."""
        try:
            from sklearn.linear_model import LogisticRegression, RidgeCV
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler
        except ImportError:
            raise Skip("scikit-learn is not installed: pip install scikit-learn") from None
        batch, targets = subject.batch, subject.batch.targets
        inputs = [t for _, t in leaves(batch.inputs) if t.is_floating_point() and batch.dim_of(t) == 0]
        if not inputs or not isinstance(targets, torch.Tensor) or targets.numel() != batch.size:
            raise Skip("it takes inputs that are numbers, and one target a sample")
        if batch.size < _FEWEST_SAMPLES:
            raise Skip(f"{batch.size} samples are too few; at least {_FEWEST_SAMPLES} are needed")
        order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(2))
        cut = 2 * batch.size // 3
        x = torch.cat([t.detach().flatten(1).double().cpu() for t in inputs], 1)[order].numpy()
        y = targets.detach().flatten().cpu()[order].double().numpy()
        classes = subject_is_classification(subject)
        plain = make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=500) if classes else RidgeCV((0.1, 1, 10, 100))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            score = float(plain.fit(x[:cut], y[:cut]).score(x[cut:], y[cut:]))
        known, held_out = batch.take(order[:cut]), batch.take(order[cut:])
        curve = subject.train(known, _STEPS, subject.own_or_default, share=0.2, keep=True)
        try:
            subject.model.eval()
            outputs = subject.outputs(held_out).detach().double().cpu()
        finally:
            subject.reset()
        truth = torch.as_tensor(y[cut:])
        if classes:
            if outputs.ndim > 1 and outputs.shape[1] > 1:
                answers = outputs.flatten(2).mean(2).argmax(1) if outputs.ndim > 2 else outputs.argmax(1)
            else:
                view = subject.known_view
                answers = (outputs.flatten() > (0.5 if view.kind == "binary" else 0.0)).long()
            mine, name = float((answers == truth).double().mean()), "accuracy"
        else:
            rest = (outputs.flatten() - truth).square().mean() / truth.var(correction=0).clamp_min(1e-30)
            mine, name = 1 - float(rest), "R2"
        kind = "logistic" if classes else "linear"
        note = f"On {len(truth)} samples held out {kind} regression has {name} {score:.3f}, the model {mine:.3f} after "
        yield Measurement("(model)", max(score, 0.0) - mine, f"{note}{len(curve.losses)} steps.")
