"""The checks on information that must not flow: from sample to sample, and from later to earlier positions."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tensorstats.preflight.checks.check import Check, Measurement, Skip, Subject
from tensorstats.preflight.subject.batch import Batch, leaves, map_tensors

__all__ = ["FutureLeaks", "SamplesMix", "Unshifted"]

_SAMPLES = 8
# A change of an output, in parts of its spread, that rounding does not explain: kernels sum in other orders for others.
_CHANGE = 1e-3


class SamplesMix(Check):
    """An output of one sample that changes with the inputs of others, in evaluation mode."""

    id = "samples-mix"
    asks = "does sample i reach output i alone (in evaluation mode)?"
    default_limit = _CHANGE
    why = "Predictions then depend on what happens to be in the batch, and on its size."
    advice = (
        "Look for softmax(dim=0), mean or normalisation over the first dimension, a view or reshape that should be a "
        "transpose, and attention or recurrent layers without batch_first=True."
    )
    leads_to = frozenset(
        {
            "input-ignored",
            "overfit",
            "future-leaks",
            "train-eval",
            "generalises",
            "loss-reduction",
            "learning-rate",
            "loss-input",
        }
    )

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Replace one half of the samples and look at the outputs of the other."""
        size = min(subject.batch.size, _SAMPLES)
        if size < 4:
            raise Skip(f"{size} samples are too few; at least 4 are needed")
        half = size // 2
        rest = torch.arange(size - half) + half
        first = torch.arange(half)
        # Others take the place of the second half, then of the first.
        spare = torch.arange(subject.batch.size).flip(0)[:size]
        with subject.mode(train=False):
            batch = subject.batch.take(torch.arange(size))
            outputs = subject.outputs(batch)
            dim = _sample_dim(outputs, batch)
            if not torch.equal(outputs, subject.outputs(batch)):
                raise Skip("two passes differ, so that a change by other samples cannot be told")
            change = 0.0
            for kept, replaced in ((first, rest), (rest, first)):
                order = torch.arange(size)
                order[replaced] = spare[: len(replaced)]
                other = subject.outputs(subject.batch.take(order))
                change = max(change, _change(outputs, other, kept.to(outputs.device), dim))
        if change > self.limit and _sequence_first(subject, batch):
            raise Skip("samples may lie along the second dimension, since targets have both")
        note = "Other samples in the batch change the output of a sample"
        yield Measurement("(model)", change, f"{note} by {change:.2g} of the spread of outputs.")


def _sample_dim(outputs: torch.Tensor, batch: Batch) -> int:
    if outputs.ndim == 0:
        raise Skip("the model returns one number for all samples")
    if outputs.shape[0] == batch.size:
        return 0
    if outputs.ndim > 1 and outputs.shape[1] == batch.size:
        return 1
    raise Skip(f"outputs {list(outputs.shape)} have no dimension of {batch.size} samples")


def _change(one: torch.Tensor, other: torch.Tensor, kept: torch.Tensor, dim: int) -> float:
    if one.shape != other.shape:
        raise Skip(f"outputs have shape {list(one.shape)} and {list(other.shape)} for as many samples")
    one, other = one.double(), other.double()
    scale = float(one.std()) if one.numel() > 1 else 0.0
    difference = float((one.index_select(dim, kept) - other.index_select(dim, kept)).abs().max())
    # What varies by rounding alone has no spread to compare with.
    return difference / max(scale, 1e-5 * float(one.abs().max()), 1e-30)


def _sequence_first(subject: Subject, batch: Batch) -> bool:
    """Whether targets have a second dimension as long as that of the inputs, and time may be the first of both."""
    tensors = [tensor for _, tensor in leaves(batch.targets)]
    inputs = [tensor for _, tensor in leaves(batch.inputs)]
    if not tensors or tensors[0].ndim < 2 or not inputs or inputs[0].ndim < 2:
        return False
    if tensors[0].shape[:2] != inputs[0].shape[:2]:
        return False
    if _shifted(subject.batch, dim=1) is not None:
        return False
    recurrent = [m for m in subject.model.modules() if getattr(m, "batch_first", None) is False]
    return bool(recurrent) or _shifted(subject.batch, dim=0) is not None


def _shifted(batch: Batch, dim: int) -> str | None:
    """The name of the input that targets are, one position later along a dimension; None where none is."""
    for name, x in leaves(batch.inputs, "inputs"):
        for _, y in leaves(batch.targets):
            if x.ndim <= dim or x.shape != y.shape or x.shape[dim] < 3 or x.dtype != y.dtype:
                continue
            later, earlier = x.narrow(dim, 1, x.shape[dim] - 1), y.narrow(dim, 0, x.shape[dim] - 1)
            known = earlier != -100
            if (
                bool(known.any())
                and bool((later == earlier)[known].all())
                and not bool((later == later.flatten()[0]).all())
            ):
                return name
    return None


class FutureLeaks(Check):
    """An output that changes with what comes later, in a model that is to predict what comes next."""

    id = "future-leaks"
    asks = "do later positions leave earlier outputs alone, where the next one is predicted?"
    default_limit = _CHANGE
    why = "The model reads the answer from its input: the loss becomes tiny, and generation fails."
    advice = (
        "Give attention a causal mask (is_causal=True, or nn.Transformer.generate_square_subsequent_mask), pad "
        "convolutions on the left alone, and use no bidirectional layers."
    )
    leads_to = frozenset({"overfit", "generalises"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Change the second half of the positions and look at the outputs of the first."""
        if subject.causal is False:
            raise Skip("causal=False was given")
        shifted = _shifted(subject.batch, dim=1)
        if subject.causal is None and shifted is None:
            raise Skip("targets are not the inputs one position later; causal=True asks for it all the same")
        yield Measurement("(model)", *_future(subject, shifted))


def _future(subject: Subject, name: str | None = None) -> tuple[float, str]:
    """How outputs change with later positions of one input, or of all: an encoder's input may be read whole."""
    batch = subject.batch.take(torch.arange(min(subject.batch.size, _SAMPLES)))
    chosen = [tensor for each, tensor in leaves(batch.inputs, "inputs") if name in (None, each)]
    length = max((tensor.shape[1] for tensor in chosen if tensor.ndim > 1), default=0)
    if length < 2:
        raise Skip("inputs have no positions")
    half = length // 2

    def changed(tensor: torch.Tensor) -> torch.Tensor:
        same = any(tensor is each for each in chosen)
        if not same or tensor.ndim < 2 or tensor.shape[1] != length or tensor.dtype == torch.bool:
            return tensor
        other = tensor.clone()
        later = tensor[:, half:]
        # The same values in another order, and those of other samples: tokens stay tokens, pads stay few.
        other[:, half:] = later.roll(1, 0).flip(1)
        return other

    with subject.mode(train=False):
        outputs = subject.outputs(batch)
        if outputs.ndim < 2 or outputs.shape[1] != length:
            raise Skip(f"outputs {list(outputs.shape)} are not one for each of {length} positions")
        if not torch.equal(outputs, subject.outputs(batch)):
            raise Skip("two passes differ, so that a change cannot be told")
        inputs = map_tensors(changed, batch.inputs)
        other = subject.outputs(Batch(inputs, batch.targets, batch.size, batch.rebuild))
    change = _change(outputs, other, torch.arange(half, device=outputs.device), 1)
    return change, f"Inputs from position {half} on change outputs before it by {change:.2g} of the spread of outputs."


class Unshifted(Check):
    """A causal model whose targets are its own inputs, not the next ones."""

    id = "targets-unshifted"
    asks = "are the targets of a model that looks back alone the next inputs?"
    why = "Position t is asked for what it is given; copying it is perfect and predicts nothing."
    advice = "Shift by one: model(tokens[:, :-1]) against tokens[:, 1:]."
    leads_to = frozenset({"generalises", "overfit"})

    def measure(self, subject: Subject) -> Iterator[Measurement]:
        """Say 1 where the loss compares with the tokens at the same positions, and the model is causal."""
        tokens = [tensor for _, tensor in leaves(subject.batch.inputs) if tensor.ndim == 2]
        view = subject.view
        if view is None or view.kind != "cross entropy" or not tokens or tokens[0].is_floating_point():
            raise Skip("targets are not tokens")
        same = view.targets.numel() == tokens[0].numel() and torch.equal(
            view.targets.flatten().to(tokens[0]), tokens[0].flatten()
        )
        if not same:
            yield Measurement("targets", 0.0)
            return
        causal = subject.causal is True or _future(subject)[0] <= _CHANGE
        yield Measurement("targets", float(causal), "Targets are the inputs themselves, at the same positions.")
