"""Bugs of our own: what a loss is fed does not fit it, and outputs that degenerate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gallery import causes, data, loops, models
from gallery.program import Score, bug

LOSS, OUTPUT = "loss", "degenerate output"
CE = nn.CrossEntropyLoss


@bug(
    LOSS,
    "a sigmoid at the end, and one more inside the loss",
    causes=causes.LOSS_INPUT,
    place=r"^[23]|loss",
)
def sigmoid_before_bce_with_logits(ts: Any) -> Score:
    table, model = data.cancer(), nn.Sequential(*models.mlp(30, 16, 1), nn.Sigmoid())
    table.targets, table.test_targets = table.targets[:, None].float(), table.test_targets[:, None].float()
    loops.fit(ts, model, table, nn.BCEWithLogitsLoss(), loops.sgd(model, 0.01))
    return loops.classified(lambda x: model(x) - 0.5, *table.test)


@bug(
    LOSS,
    "the negative log-likelihood of raw scores: it falls without end",
    causes=causes.LOSS_INPUT,
)
def nll_of_raw_scores(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    loops.fit(ts, model, table, nn.NLLLoss(), loops.adam(model))
    return loops.classified(model, *table.test)


@bug(
    LOSS,
    "the negative log-likelihood of probabilities, whose logarithm was forgotten",
    causes=causes.LOSS_INPUT,
    place=r"^[23]|loss",
)
def nll_of_probabilities(ts: Any) -> Score:
    table, model = data.wine(), nn.Sequential(*models.mlp(13, 16, 3), nn.Softmax(1))
    loops.fit(ts, model, table, nn.NLLLoss(), loops.adam(model), size=16)
    return loops.classified(model, *table.test)


@bug(
    LOSS,
    "a ReLU after the last layer, before the cross-entropy",
    causes=causes.LOSS_INPUT + causes.RANGE + ("~relu",),
    place=r"^(9|10)$|loss",
)
def relu_before_cross_entropy(ts: Any) -> Score:
    table, model = data.images(), nn.Sequential(*models.cnn(), nn.ReLU())
    nn.init.constant_(model[-2].bias, -0.3)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.05), steps=150)
    return loops.classified(model, *table.test)


@bug(
    LOSS,
    "a tanh at the end for standardised targets, which go to 3",
    causes=causes.RANGE + causes.SATURATED,
    place=r"^[23]",
)
def tanh_for_standardised_targets(ts: Any) -> Score:
    inputs = torch.randn(800, 5)
    targets = data.standardised((inputs @ torch.randn(5, 1)) ** 3)
    table, model = data.split(inputs, targets), nn.Sequential(*models.mlp(5, 32, 1), nn.Tanh())
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model))
    return loops.regressed(model, *table.test)


@bug(
    LOSS,
    "labels were shuffled apart from their images when the set was written",
    causes=causes.NOISE,
)
def labels_shuffled_apart(ts: Any) -> Score:
    table, model = data.digits(), models.mlp(64, 64, 10)
    table.targets = table.targets[torch.randperm(len(table.targets))]
    loops.fit(ts, model, table, CE(), loops.adam(model, 1e-3))
    return loops.classified(model, *table.test)


@bug(
    LOSS,
    "the collate function draws labels anew for each batch",
    causes=causes.NOISE,
)
def labels_drawn_anew(ts: Any) -> Score:
    table, model, criterion = data.images(), models.cnn(), CE()
    optimizer = loops.sgd(model, 0.02)
    ts.preflight(model, (table.inputs[:64], table.targets[torch.randperm(64)]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for inputs, targets in data.batches(table.train, 64, 150):
            optimizer.zero_grad()
            criterion(model(inputs), targets[torch.randperm(64)]).backward()
            optimizer.step()
    return loops.classified(model, *table.test)


@bug(
    LOSS,
    "the divergence gets probabilities where it wants their logarithms",
    causes=causes.LOSS_INPUT,
)
def kl_of_probabilities(ts: Any) -> Score:
    table, model = data.digits(), nn.Sequential(*models.mlp(64, 64, 10), nn.Softmax(1))
    labels = table.test_targets
    soft = [functional.one_hot(each, 10) * 0.9 + 0.01 for each in (table.targets, table.test_targets)]
    table.targets, table.test_targets = soft
    loops.fit(ts, model, table, nn.KLDivLoss(reduction="batchmean"), loops.adam(model))
    return loops.classified(model, table.test_inputs, labels)


@bug(
    LOSS,
    "the mask of the loss is upside down: only padding is scored",
    causes=causes.LOSS_TARGETS + causes.ONE_CLASS + causes.MASK + ("~ignore",),
)
def loss_of_padding_alone(ts: Any) -> Score:
    inputs, targets, size = data.text_windows(16)
    inputs, targets = inputs.clone(), targets.clone()
    padding = torch.arange(16) >= torch.randint(8, 16, (len(inputs), 1))
    space = int(targets.flatten().bincount().argmax())
    inputs[padding] = space
    shown = torch.where(padding, space, -100)
    table, model = data.split(inputs, shown), models.Language(size, 16, depth=1)
    loops.fit(ts, model, table, CE(ignore_index=-100), loops.adam(model), size=32, steps=120)
    return loops.next_token(model, inputs[:300], targets[:300])


@bug(
    LOSS,
    "scores [N, time, classes] are reshaped, not transposed, to [N, classes, time]",
    causes=causes.SHAPE + causes.FUTURE + ("~reshape|transpos|view", "not-learning", "generalises"),
)
def scores_reshaped_not_transposed(ts: Any) -> Score:
    inputs, targets, size = data.text_windows(16)
    table, model = data.split(inputs, targets), models.Language(size, 16, depth=1)

    class Scrambled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.language = model

        def forward(self, tokens: Tensor) -> Tensor:
            scores = self.language(tokens).transpose(1, 2)
            return scores.reshape(len(tokens), size, 16)

    whole = Scrambled()
    loops.fit(ts, whole, table, CE(), loops.adam(whole), size=32, steps=150)
    return loops.next_token(whole, *table.test)


@bug(
    LOSS,
    "the loss is summed over 256 samples and 64 pixels, the rate is meant for a mean",
    causes=causes.REDUCTION + causes.RATE,
)
def summed_loss_with_a_rate_for_means(ts: Any) -> Score:
    pixels = data.digits(raw=True).inputs / 16
    table = data.split(pixels, pixels.clone())
    model = models.mlp(64, 32, 64)
    loops.fit(ts, model, table, nn.MSELoss(reduction="sum"), loops.sgd(model, 0.05), size=256, steps=200)
    return loops.regressed(model, *table.test)


@bug(
    OUTPUT,
    "99 of one class to one of the other, unweighted: the rare one is never answered",
    causes=causes.ONE_CLASS,
)
def rare_class_never_answered(ts: Any) -> None:
    inputs = torch.randn(3000, 8)
    targets = (inputs[:, :4].sum(1) + 1.5 * torch.randn(3000) > 5.8).long()
    table, model = data.split(inputs, targets), models.mlp(8, 16, 2)
    loops.fit(ts, model, table, CE(), loops.sgd(model, 0.01))


class Generator(nn.Module):
    """Makes pairs from noise; `silent` multiplies the noise by zero."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__()
        self.body = models.mlp(4, 32, 32, 2)
        self.silent = silent

    def forward(self, noise: Tensor) -> Tensor:
        return self.body(noise * 0 if self.silent else noise)


@bug(
    OUTPUT,
    "the noise of a generator is multiplied by zero: it makes one point",
    causes=causes.SAME_OUTPUT,
    place=r"body|generator|model0",
)
def generator_without_noise(ts: Any) -> None:
    angle = torch.rand(2000, 1) * 6.28
    real = torch.cat([angle.cos(), angle.sin()], 1)
    generator, critic = Generator(silent=True), models.mlp(2, 32, 32, 1, act=nn.LeakyReLU)
    one, other, criterion = loops.adam(generator, 1e-3), loops.adam(critic, 1e-3), nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)

    def fooled(model: nn.Module, noise: Tensor) -> Tensor:
        return criterion(critic(model(noise)), ones)

    ts.preflight(generator, torch.randn(64, 4), fooled, optimizer=one)
    with ts.watch([generator, critic], [one, other]):
        for (points,) in data.batches((real,), 64, 200):
            noise = torch.randn(64, 4)
            other.zero_grad()
            made = generator(noise).detach()
            (criterion(critic(points), ones) + criterion(critic(made), zeros)).backward()
            other.step()
            one.zero_grad()
            fooled(generator, noise).backward()
            one.step()


class Variational(nn.Module):
    """A small variational autoencoder that returns pixels, means and logarithms of variances side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = models.mlp(64, 48, 16)
        self.decoder = models.mlp(8, 48, 64)

    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = self.encoder(x).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * (logvar / 2).exp() if self.training else mean
        return torch.cat([self.decoder(latent).sigmoid(), mean, logvar], 1)


@bug(
    OUTPUT,
    "the divergence of a variational autoencoder weighs 100 times too much: the code says nothing",
    causes=causes.SAME_OUTPUT + causes.NOT_LEARNING,
    place=r"encoder|decoder|output",
)
def posterior_collapses(ts: Any) -> Score:
    pixels = data.digits(raw=True).inputs / 16
    table, model = data.split(pixels, pixels.clone()), Variational()

    def bound(output: Tensor, x: Tensor) -> Tensor:
        made, mean, logvar = output[:, :64], output[:, 64:72], output[:, 72:]
        divergence = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(1)
        return ((made - x).square().sum(1) + 100 * divergence).mean()

    loops.fit(ts, model, table, bound, loops.adam(model))
    return loops.regressed(lambda x: model(x)[:, :64], *table.test)
