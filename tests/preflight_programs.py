"""Healthy programs and buggy ones for the tests of `ts.preflight`: each gives model, batch, loss and optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

Program = tuple[nn.Module, Any, Any, Any]

TEXT = (
    "the cat sat on the mat and the dog lay by the door while rain fell on the old roof and the wind went round the "
    "house as it had gone round all the houses of the street since the first of them was built of stone and clay "
) * 8


def digits(n: int = 256, raw: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    chosen = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(3))[:n]
    x = torch.tensor(data.data, dtype=torch.float32)
    if not raw:
        x = (x - x.mean()) / x.std()
    return x[chosen], torch.tensor(data.target)[chosen]


def table(load: Callable[[], Any], n: int = 256, scaled: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    data = load()
    x, y = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))[:n]
    if scaled:
        x = (x - x.mean(0)) / x.std(0)
    return x[chosen], y[chosen]


def tokens(n: int = 64, length: int = 16) -> tuple[torch.Tensor, int]:
    letters = sorted(set(TEXT))
    codes = torch.tensor([letters.index(letter) for letter in TEXT])
    starts = torch.randint(len(codes) - length - 1, (n,), generator=torch.Generator().manual_seed(4))
    return torch.stack([codes[s : s + length + 1] for s in starts.tolist()]), len(letters)


def adam(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)


def sgd(model: nn.Module, lr: float = 0.05, momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def mlp(inputs: int = 64, outputs: int = 10, width: int = 64, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), act(), nn.Linear(width, width), act(), nn.Linear(width, outputs))


def cnn(channels: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.BatchNorm2d(2 * channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * channels, 10),
    )


class Recurrent(nn.Module):
    """Predicts a class from the last of a sequence, or each next token."""

    def __init__(
        self,
        kind: type[nn.RNNBase],
        inputs: int,
        outputs: int,
        vocabulary: int = 0,
        batch_first: bool = True,
        **more: Any,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, inputs) if vocabulary else nn.Identity()
        self.rnn = kind(inputs, 32, batch_first=batch_first, **more)
        self.head = nn.Linear(64 if more.get("bidirectional") else 32, outputs)
        self.every = bool(vocabulary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.rnn(self.embedding(x))[0]
        return self.head(out if self.every else out[:, -1])


class Transformer(nn.Module):
    """An encoder: classes of sequences, or each next token; causal or not."""

    def __init__(self, outputs: int, vocabulary: int = 0, causal: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.inputs = nn.Embedding(vocabulary, 32) if vocabulary else nn.Linear(8, 32)
        self.position = nn.Parameter(torch.randn(1, 16, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, outputs)
        self.every, self.causal = bool(vocabulary), causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inputs(x) + self.position[:, : x.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        h = self.encoder(h, mask=mask, is_causal=self.causal)
        return self.head(h if self.every else h.mean(1))


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decode = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_var = self.encode(x).chunk(2, 1)
        return self.decode(mean + torch.randn_like(mean) * (log_var / 2).exp()), mean, log_var


def vae_loss(outputs: tuple[torch.Tensor, ...], x: torch.Tensor) -> torch.Tensor:
    reconstruction, mean, log_var = outputs
    divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1).mean()
    return F.binary_cross_entropy_with_logits(reconstruction, x, reduction="sum") / len(x) + divergence


def next_token_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def language(model: Callable[[int], nn.Module], lr: float = 3e-3) -> Program:
    t, vocabulary = tokens()
    net = model(vocabulary)
    return net, (t[:, :-1], t[:, 1:]), next_token_loss, adam(net, lr)


def classifier(
    model: nn.Module, optimizer: Any = adam, shape: tuple[int, ...] | None = None, raw: bool = False
) -> Program:
    x, y = digits(raw=raw)
    return model, (x.reshape(-1, *shape) if shape else x, y), nn.CrossEntropyLoss(), optimizer(model)


def healthy_frozen() -> Program:
    model = mlp()
    for p in model[:4].parameters():
        p.requires_grad_(False)
    return classifier(model, lambda m: torch.optim.Adam(m.parameters(), lr=1e-2))


def healthy_imbalanced() -> Program:
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] + 0.5 * x[:, 1] > 1.45).long()
    model = mlp(8, 2)
    return model, (x, y), nn.CrossEntropyLoss(), adam(model, 3e-3)


def healthy_bag_of_words() -> Program:
    g = torch.Generator().manual_seed(2)
    rates = 1.0 / torch.arange(1, 501)
    y = torch.randint(2, (200,), generator=g)
    x = (torch.rand(200, 500, generator=g) < rates * 3).float()
    x[:, 5:40] *= (torch.rand(200, 35, generator=g) < torch.where(y[:, None] == 1, 1.0, 0.2)).float()
    model = nn.Sequential(nn.Linear(500, 32), nn.ReLU(), nn.Linear(32, 2))
    return model, (x, y), nn.CrossEntropyLoss(), adam(model, 3e-3)


def healthy_big_targets() -> Program:
    x = torch.randn(256, 6, generator=torch.Generator().manual_seed(5))
    y = (25 + 12 * torch.tanh(x[:, :1] + x[:, 1:2])).clamp(0, 50)
    model = mlp(6, 1)
    return model, (x, y), nn.MSELoss(), adam(model, 1e-2)


def healthy_vae() -> Program:
    model = VAE()
    x = digits(raw=True)[0] / 16
    return model, (x, x), vae_loss, adam(model)


def healthy_step() -> Program:
    model = mlp()
    x, y = digits()

    def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(model(batch["x"]), batch["label"])

    return model, {"x": x, "label": y}, step, adam(model)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(64, 10)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.left(left).relu(), self.right(right).relu()], 1))


def healthy_inputs(mapping: bool) -> Program:
    x, y = digits()
    model = TwoInputs()
    inputs: Any = {"right": x[:, 32:], "left": x[:, :32]} if mapping else (x[:, :32], x[:, 32:])
    return model, (inputs, y), nn.CrossEntropyLoss(), adam(model)


def regression(model: nn.Module, lr: float = 1e-2) -> Program:
    x, y = table(load_diabetes)
    y = ((y - y.mean()) / y.std()).float().reshape(-1, 1)
    return model, (x, y), nn.MSELoss(), adam(model, lr)


def binary(model: nn.Module, loss: nn.Module | None = None, lr: float = 1e-2, scaled: bool = True) -> Program:
    x, y = table(load_breast_cancer, scaled=scaled)
    return model, (x, y.float().reshape(-1, 1)), loss or nn.BCEWithLogitsLoss(), adam(model, lr)


def healthy_lora() -> Program:
    model = mlp()
    for p in model.parameters():
        p.requires_grad_(False)

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.a = nn.Parameter(torch.randn(8, base.in_features) / math.sqrt(base.in_features))
            self.b = nn.Parameter(torch.zeros(base.out_features, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + x @ self.a.T @ self.b.T

    for place in (0, 2, 4):
        model[place] = Adapted(model[place])
    return classifier(model, lambda m: adam(m, 1e-2))


def healthy_sequence_series() -> Program:
    t = torch.arange(17.0) * 0.4
    phase = torch.rand(128, 1, generator=torch.Generator().manual_seed(6)) * 6.28
    series = torch.sin(t + phase)[..., None]
    model = Recurrent(nn.LSTM, 1, 1)
    model.every = True
    return model, (series[:, :-1], series[:, 1:]), nn.MSELoss(), adam(model, 1e-2)


def healthy_sequences(kind: str) -> Program:
    x, y = digits()
    x = x.reshape(-1, 8, 8)
    model: nn.Module = Transformer(10) if kind == "transformer" else Recurrent(getattr(nn, kind), 8, 10)
    return model, (x, y), nn.CrossEntropyLoss(), adam(model, 3e-3)


def blobs() -> Program:
    g = torch.Generator().manual_seed(7)
    y = torch.randint(3, (200,), generator=g)
    x = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]])[y] + 1.5 * torch.randn(200, 2, generator=g)
    model = mlp(2, 3, 16)
    return model, (x, y), nn.CrossEntropyLoss(), adam(model, 1e-2)


def circles() -> Program:
    g = torch.Generator().manual_seed(8)
    y = torch.randint(2, (200,), generator=g)
    angle = torch.rand(200, generator=g) * 6.28
    x = torch.stack([angle.cos(), angle.sin()], 1) * torch.where(y == 1, 0.5, 1.0)[:, None]
    x = x + 0.1 * torch.randn(200, 2, generator=g)
    model = mlp(2, 2, 32, nn.Tanh)
    return model, (x, y), nn.CrossEntropyLoss(), adam(model, 1e-2)


def xor() -> Program:
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(8, 1)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    return model, (x, (x.sum(1, keepdim=True) == 1).float()), nn.BCEWithLogitsLoss(), adam(model, 3e-2)


def autoencoder() -> Program:
    x = digits(raw=True)[0] / 16
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())
    return model, (x, x), nn.MSELoss(), adam(model, 3e-3)


def scheduled() -> Program:
    model, batch, loss, optimizer = classifier(mlp())
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 100, 1.0))
    return model, batch, loss, optimizer


HEALTHY: dict[str, Callable[[], Program]] = {
    "mlp": lambda: classifier(mlp()),
    "mlp without optimizer": lambda: (*classifier(mlp())[:3], None),
    "mlp sgd": lambda: classifier(mlp(), sgd),
    "mlp slow sgd": lambda: classifier(mlp(), lambda m: sgd(m, 0.03, 0.0)),
    "mlp tanh": lambda: classifier(mlp(act=nn.Tanh)),
    "mlp gelu adamw": lambda: classifier(
        mlp(act=nn.GELU), lambda m: torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=0.1)
    ),
    "warm-up": scheduled,
    "dropout": lambda: classifier(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))),
    "cnn": lambda: classifier(cnn(), shape=(1, 8, 8)),
    "cnn raw pixels": lambda: classifier(cnn(), shape=(1, 8, 8), raw=True),
    "raw digits": lambda: classifier(mlp(), raw=True),
    "linear": lambda: classifier(nn.Linear(64, 10), lambda m: adam(m, 1e-2)),
    "rnn": lambda: healthy_sequences("RNN"),
    "lstm": lambda: healthy_sequences("LSTM"),
    "gru": lambda: healthy_sequences("GRU"),
    "transformer": lambda: healthy_sequences("transformer"),
    "lstm language": lambda: language(lambda v: Recurrent(nn.LSTM, 32, v, v)),
    "causal transformer": lambda: language(lambda v: Transformer(v, v, causal=True)),
    "autoencoder": autoencoder,
    "vae": healthy_vae,
    "targets 0 to 50": healthy_big_targets,
    "diabetes": lambda: regression(mlp(10, 1)),
    "diabetes linear": lambda: regression(nn.Linear(10, 1)),
    "cancer": lambda: binary(mlp(30, 1)),
    "cancer linear": lambda: binary(nn.Linear(30, 1)),
    "cancer sigmoid": lambda: binary(nn.Sequential(mlp(30, 1), nn.Sigmoid()), nn.BCELoss()),
    "cancer raw into norm": lambda: binary(nn.Sequential(nn.BatchNorm1d(30), mlp(30, 1)), scaled=False),
    "wine": lambda: (m := mlp(13, 3), table(load_wine), nn.CrossEntropyLoss(), adam(m, 3e-3)),
    "frozen": healthy_frozen,
    "lora": healthy_lora,
    "imbalanced 9 to 1": healthy_imbalanced,
    "bag of words": healthy_bag_of_words,
    "step": healthy_step,
    "several inputs": lambda: healthy_inputs(False),
    "named inputs": lambda: healthy_inputs(True),
    "series": healthy_sequence_series,
    "blobs": blobs,
    "circles": circles,
    "xor": xor,
}


# --- bugs: a program and the rule whose finding must come first -------------------------------------------------------


def _with(program: Program, **changed: Any) -> Program:
    model, batch, loss, optimizer = program
    return (
        changed.get("model", model),
        changed.get("batch", batch),
        changed.get("loss", loss),
        changed.get("optimizer", optimizer),
    )


def softmax_before_loss() -> Program:
    return classifier(nn.Sequential(mlp(), nn.Softmax(dim=1)))


def broadcast() -> Program:
    model, (x, y), loss, optimizer = regression(mlp(10, 1))
    return model, (x, y.flatten()), loss, optimizer


def broadcast_by_hand() -> Program:
    model, batch, _, optimizer = broadcast()
    return model, batch, lambda p, t: (p - t).square().mean(), optimizer


class OverBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).softmax(0)


class MeanOverBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x).relu()
        return self.b(h - h.mean(0))


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = mlp(64, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).detach())


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.a(x).relu())


class AlwaysDropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(F.dropout(self.a(x).relu(), 0.5))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + torch.randn_like(x))


class Zeroed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x * 0)


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = nn.Linear(10, 8), nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.net(x)
        return self.head((h - h).square().sum(1, keepdim=True).sqrt()) + h[:, :1]


class View(nn.Module):
    """Reads sequences of 8 rows by 8 as if time came first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(8, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def constant_weights(value: float) -> Program:
    model = mlp()
    for p in model.parameters():
        nn.init.constant_(p, value)
    return classifier(model)


def normal_weights(std: float, model: nn.Module | None = None) -> Program:
    model = model or mlp(width=256)
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, 0, std)
    return classifier(model)


def deep(act: type[nn.Module], depth: int = 10) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, 32), act()]
    for _ in range(depth):
        layers += [nn.Linear(32, 32), act()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


def dead() -> Program:
    model = mlp()
    nn.init.constant_(model[2].bias, -50.0)
    return classifier(model)


def momentum_of_norms(momentum: float) -> Program:
    model = cnn()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    return classifier(model, shape=(1, 8, 8))


def data(change: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Program:
    model, (x, y), loss, _ = classifier(mlp())
    x, y = change(x.clone(), y.clone())
    model[0] = nn.Linear(x.shape[1], 64)
    return model, (x, y), loss, adam(model)


def half_zero(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x[:, 32:] = 0
    return x, y


def one_nan(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x[3, 7] = math.nan
    return x, y


def shuffled(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(9))]


def minus_one_labels() -> Program:
    model, (x, y), loss, optimizer = binary(mlp(30, 1))
    return model, (x, 2 * y - 1), loss, optimizer


def x_to_the_fourth() -> Program:
    x = torch.linspace(-100, 100, 200).reshape(-1, 1)
    model = mlp(1, 1)
    return model, (x, x**4), nn.MSELoss(), adam(model)


def raw_diabetes(factor: float) -> Program:
    x, y = table(load_diabetes)
    model = mlp(10, 1)
    return model, (x, factor * y.float().reshape(-1, 1)), nn.MSELoss(), adam(model)


def far_targets(last: nn.Module) -> Program:
    x = torch.randn(256, 6, generator=torch.Generator().manual_seed(5))
    y = (28 + 12 * torch.tanh(x[:, :1] + x[:, 1:2])).clamp(3, 53)
    model = nn.Sequential(mlp(6, 1), last)
    return model, (x, y), nn.MSELoss(), adam(model, 1e-2)


def other_model() -> Program:
    return _with(classifier(mlp()), optimizer=adam(mlp()))


def replaced_head() -> Program:
    model, batch, loss, optimizer = classifier(mlp())
    model[4] = nn.Linear(64, 10)
    return model, batch, loss, optimizer


def clamped() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: F.cross_entropy(p, t).clamp(max=1.0))


def ignored_targets() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: F.cross_entropy(p, p.argmax(1)))


def negated() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: -F.cross_entropy(p, t))


def detached_loss() -> Program:
    return _with(classifier(mlp()), loss=lambda p, t: F.cross_entropy(p.detach(), t))


def summed() -> Program:
    return _with(classifier(mlp(), sgd), loss=nn.CrossEntropyLoss(reduction="sum"))


def sgd_program(**settings: Any) -> Program:
    return classifier(mlp(), lambda m: torch.optim.SGD(m.parameters(), **settings))


def unshifted() -> Program:
    model, (x, _), loss, optimizer = language(lambda v: Transformer(v, v, causal=True))
    return model, (x, x), loss, optimizer


BUGGY: dict[str, Callable[[], tuple[Any, ...]]] = {
    "softmax before cross entropy": lambda: (*softmax_before_loss(), "loss-input"),
    "sigmoid before its loss": lambda: (*binary(nn.Sequential(mlp(30, 1), nn.Sigmoid())), "loss-input"),
    "logits into nll": lambda: (*_with(classifier(mlp()), loss=nn.NLLLoss()), "loss-input"),
    "broadcast": lambda: (*broadcast(), "loss-broadcast"),
    "broadcast by hand": lambda: (*broadcast_by_hand(), "loss-broadcast"),
    "softmax over the batch": lambda: (*classifier(OverBatch()), "samples-mix"),
    "mean over the batch": lambda: (*classifier(MeanOverBatch()), "samples-mix"),
    "lstm without batch_first": lambda: (*_sequences(View()), "samples-mix"),
    "transformer without batch_first": lambda: (*_sequences(Transformer(10, batch_first=False)), "samples-mix"),
    "transformer without mask": lambda: (*language(lambda v: Transformer(v, v)), "future-leaks"),
    "bidirectional language model": lambda: (
        *language(lambda v: Recurrent(nn.LSTM, 32, v, v, bidirectional=True)),
        "future-leaks",
    ),
    "targets not shifted": lambda: (*unshifted(), "targets-unshifted"),
    "detach": lambda: (*classifier(Detached()), "no-gradient"),
    "unused layer": lambda: (*classifier(Unused()), "no-gradient"),
    "dropout in evaluation": lambda: (*classifier(AlwaysDropped()), "eval-differs"),
    "noise in evaluation": lambda: (*classifier(Noisy()), "eval-differs"),
    "input times zero": lambda: (*classifier(Zeroed()), "input-ignored"),
    "root of zero": lambda: (*regression(Distances()), "nonfinite"),
    "constant weights": lambda: (*constant_weights(0.01), "symmetric-units"),
    "zero weights": lambda: (*constant_weights(0.0), "symmetric-units"),
    "wide weights": lambda: (*normal_weights(1.0), "scale-through-depth"),
    "tiny weights": lambda: (*normal_weights(1e-4), "outputs-alike"),
    "deep sigmoid": lambda: (*classifier(deep(nn.Sigmoid)), "vanishing-gradient"),
    "no activation": lambda: (*classifier(mlp(act=nn.Identity)), "network-is-linear"),
    "dead layer": lambda: (*dead(), "dead-at-start"),
    "batch norm momentum 0": lambda: (*momentum_of_norms(0.0), "batch-norm-statistics"),
    "batch norm momentum 0.99": lambda: (*momentum_of_norms(0.99), "batch-norm-statistics"),
    "dropout 0.9": lambda: (
        *classifier(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.9), nn.Linear(128, 10))),
        "dropout-too-strong",
    ),
    "one class": lambda: (*data(lambda x, y: (x, y // 255)), "one-class"),
    "rare class": lambda: (*data(lambda x, y: (x, (torch.arange(len(y)) < 4).long())), "class-imbalance"),
    "label among features": lambda: (*data(lambda x, y: (torch.cat([x, y[:, None].float()], 1), y)), "leaking-feature"),
    "half the features zero": lambda: (*data(half_zero), "constant-features"),
    "copied features": lambda: (*data(lambda x, y: (torch.cat([x[:, :32], x[:, :32]], 1), y)), "duplicate-features"),
    "nan": lambda: (*data(one_nan), "data-nonfinite"),
    "shuffled labels": lambda: (*data(shuffled), "generalises"),
    "features scales apart": lambda: (*binary(mlp(30, 1), scaled=False), "feature-scales"),
    "pixels to 255": lambda: (*data(lambda x, y: (x * 100, y)), "input-range"),
    "labels of -1 and 1": lambda: (*minus_one_labels(), "loss-targets"),
    "x to the fourth": lambda: (*x_to_the_fourth(), "input-range"),
    "targets times ten": lambda: (*raw_diabetes(10.0), "target-scale"),
    "sigmoid for 3 to 53": lambda: (*far_targets(nn.Sigmoid()), "output-range"),
    "tanh for 3 to 53": lambda: (*far_targets(nn.Tanh()), "output-range"),
    "softmax of one unit": lambda: (*far_targets(nn.Softmax(dim=1)), "one-unit-softmax"),
    "optimizer of another model": lambda: (*other_model(), "not-in-optimizer"),
    "head replaced after the optimizer": lambda: (*replaced_head(), "not-in-optimizer"),
    "loss clamped": lambda: (*clamped(), "loss-flat"),
    "loss detached": lambda: (*detached_loss(), "loss-flat"),
    "targets ignored": lambda: (*ignored_targets(), "loss-ignores-targets"),
    "loss negated": lambda: (*negated(), "loss-sign"),
    "sum at a rate for means": lambda: (*summed(), "loss-reduction"),
    "maximize": lambda: (*sgd_program(lr=0.05, maximize=True), "optimizer-settings"),
    "rate 0": lambda: (*sgd_program(lr=0.0), "optimizer-settings"),
    "rate 1e-8": lambda: (*sgd_program(lr=1e-8), "learning-rate"),
    "rate 100": lambda: (*sgd_program(lr=100.0), "learning-rate"),
    "adam at 1": lambda: (*classifier(mlp(), lambda m: adam(m, 1.0)), "learning-rate"),
    "adam at 1e-6": lambda: (*classifier(mlp(), lambda m: adam(m, 1e-6)), "learning-rate"),
    "weight decay 10": lambda: (*sgd_program(lr=0.05, weight_decay=10.0), "weight-decay"),
    "adam with weight decay 10": lambda: (
        *classifier(mlp(), lambda m: torch.optim.Adam(m.parameters(), weight_decay=10.0)),
        "weight-decay",
    ),
    "momentum 1": lambda: (*sgd_program(lr=0.05, momentum=1.0), "optimizer-settings"),
}


def _sequences(model: nn.Module) -> Program:
    x, y = digits()
    return model, (x.reshape(-1, 8, 8), y), nn.CrossEntropyLoss(), adam(model, 3e-3)
