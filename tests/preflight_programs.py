"""Healthy programs for the tests of `ts.preflight`: each gives model, batch, loss and optimizer."""

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
