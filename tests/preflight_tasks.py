"""Healthy programs with unusual tasks, losses and batches for the tests of `ts.preflight`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from preflight_programs import Program, Transformer, adam, classifier, digits, mlp, next_token_loss, tokens


def segmentation() -> Program:
    x = torch.randn(32, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 1))
    return model, (x, (F.avg_pool2d(x, 3, 1, 1)[:, 0] > 0).long()), nn.CrossEntropyLoss(), adam(model, 1e-2)


def contrastive() -> Program:
    """Two noisy views of each sample; the noise is the step's, and the loss compares samples on purpose."""
    model = mlp(64, 16)

    def step(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        one, two = (F.normalize(model(x + 0.1 * torch.randn_like(x)), dim=1) for _ in range(2))
        return F.cross_entropy(one @ two.T / 0.1, torch.arange(len(x)))

    return model, digits()[0], step, adam(model)


def generator() -> Program:
    model, critic = mlp(4, 64), mlp(64, 1)

    def fooled(model: nn.Module, noise: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(critic(model(noise)), torch.ones(len(noise), 1))

    return model, torch.randn(64, 4), fooled, adam(model)


def critic() -> Program:
    model, maker = mlp(64, 1), mlp(4, 64)

    def step(model: nn.Module, real: torch.Tensor) -> torch.Tensor:
        fake = model(maker(torch.randn(len(real), 4)).detach())
        loss = F.binary_cross_entropy_with_logits
        return loss(model(real), torch.ones(len(real), 1)) + loss(fake, torch.zeros(len(fake), 1))

    return model, digits()[0], step, adam(model)


def multilabel() -> Program:
    model, (x, y), _, optimizer = classifier(mlp())
    return model, (x, F.one_hot(y, 10).float()), nn.BCEWithLogitsLoss(), optimizer


def sparse_embedding() -> Program:
    x = torch.randint(0, 50, (96, 5), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.EmbeddingBag(50, 16, sparse=True), nn.Linear(16, 3))
    return model, (x, x[:, 0] % 3), nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), 0.5)


class Graph(nn.Module):
    """Nodes hear of their neighbours: samples are linked on purpose, by the numbers in `edges`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        h = self.a(x).relu()
        return self.b(h + torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]))


def graph() -> Program:
    g = torch.Generator().manual_seed(0)
    model, x, edges = Graph(), torch.randn(100, 8, generator=g), torch.randint(0, 100, (2, 300), generator=g)
    return model, ((x, edges), x[:, :3].argmax(1)), nn.CrossEntropyLoss(), adam(model, 1e-2)


class Data:
    """A batch that nobody knows how to take apart."""

    def __init__(self, x: torch.Tensor, edges: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.edges, self.y = x, edges, y


def graph_in_an_object() -> Program:
    model, ((x, edges), y), _, optimizer = graph()

    def step(model: nn.Module, data: Data) -> torch.Tensor:
        return F.cross_entropy(model(data.x, data.edges), data.y)

    return model, Data(x, edges, y), step, optimizer


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(64, 4), nn.ModuleList(mlp() for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = self.gate(x).softmax(1)
        kept = torch.zeros_like(shares).scatter(1, shares.topk(2, 1).indices, 1.0) * shares
        return torch.stack([expert(x) * kept[:, i : i + 1] for i, expert in enumerate(self.experts)]).sum(0)


class ZeroBranches(nn.Module):
    """Residual blocks whose last layers start at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(6)
        )
        for block in self.blocks:
            nn.init.zeros_(block[3].weight)
            nn.init.zeros_(block[3].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inputs(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def zero_head() -> Program:
    model = mlp()
    nn.init.zeros_(model[4].weight)
    nn.init.zeros_(model[4].bias)
    return classifier(model)


def masked_language() -> Program:
    text, vocabulary = tokens()
    x, y = text[:, :-1].clone(), text[:, :-1].clone()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    x[mask], y[~mask] = vocabulary, -100
    model = Transformer(vocabulary + 1, vocabulary + 1)
    return model, (x, y), next_token_loss, adam(model, 3e-3)


class Translation(nn.Module):
    """The encoder reads its input whole; the decoder looks back alone."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocabulary, 32), nn.Linear(32, vocabulary)
        self.body = nn.Transformer(32, 4, 1, 1, 64, batch_first=True)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.head(self.body(self.embedding(source), self.embedding(target), tgt_mask=mask))


def translation() -> Program:
    text, vocabulary = tokens()
    model = Translation(vocabulary)
    return model, ((text[:, :8], text[:, 8:-1]), text[:, 9:]), next_token_loss, adam(model, 3e-3)


def quantile() -> Program:
    x = torch.randn(128, 5, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] + 0.5 * torch.randn(128, 1, generator=torch.Generator().manual_seed(1))
    model = mlp(5, 1)
    return model, (x, y), lambda p, t: torch.maximum(0.9 * (t - p), -0.1 * (t - p)).mean(), adam(model, 1e-2)


def autocast() -> Program:
    model = mlp()

    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(batch[0]), batch[1])

    return model, digits(), step, adam(model)


def summed_at_its_rate() -> Program:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 2e-4, momentum=0.9)
    return model, digits(), nn.CrossEntropyLoss(reduction="sum"), optimizer


def compiled() -> Program:
    model, *rest = classifier(mlp())
    return (torch.compile(model), *rest)


TASKS: dict[str, Callable[[], Program]] = {
    "segmentation": segmentation,
    "contrastive": contrastive,
    "generator": generator,
    "critic": critic,
    "multilabel": multilabel,
    "sparse embedding": sparse_embedding,
    "graph": graph,
    "graph in an object": graph_in_an_object,
    "experts": lambda: classifier(Experts(), lambda m: adam(m, 3e-3)),
    "zero branches": lambda: classifier(ZeroBranches()),
    "zero head": zero_head,
    "masked language": masked_language,
    "translation": translation,
    "quantile": quantile,
    "autocast": autocast,
    "summed at its rate": summed_at_its_rate,
    "smoothed labels": lambda: (*classifier(m := mlp())[:2], nn.CrossEntropyLoss(label_smoothing=0.1), adam(m)),
    "weighted classes": lambda: (*classifier(m := mlp())[:2], nn.CrossEntropyLoss(torch.linspace(0.5, 2, 10)), adam(m)),
    "log-probabilities": lambda: (*classifier(m := nn.Sequential(mlp(), nn.LogSoftmax(1)))[:2], nn.NLLLoss(), adam(m)),
    "compiled": compiled,
}
