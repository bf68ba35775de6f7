"""Healthy programs with unusual tasks: generators, contrasts, rewards, codes, graphs, losses below zero."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gallery import data, loops, models
from gallery.program import Score, healthy

CE = nn.CrossEntropyLoss


@healthy("two losses that pull against each other and never settle; two models, two optimizers")
def generator_and_critic(ts: Any) -> Score:
    real = torch.tensor([2.0, -1.0]) + 0.5 * torch.randn(2000, 2)
    generator, critic = models.mlp(4, 32, 32, 2), models.mlp(2, 32, 32, 1, act=nn.LeakyReLU)
    one, other = loops.adam(generator, 2e-3, betas=(0.5, 0.9)), loops.adam(critic, 2e-3, betas=(0.5, 0.9))
    criterion, ones, zeros = nn.BCEWithLogitsLoss(), torch.ones(64, 1), torch.zeros(64, 1)

    def fooled(model: nn.Module, noise: Tensor) -> Tensor:
        return criterion(critic(model(noise)), ones)

    far = (generator(torch.randn(500, 4)).mean(0) - real.mean(0)).norm().item()
    ts.preflight(generator, torch.randn(64, 4), fooled, optimizer=one)
    with ts.watch([generator, critic], [one, other]):
        for (points,) in data.batches((real,), 64, 400):
            noise = torch.randn(64, 4)
            other.zero_grad()
            made = generator(noise).detach()
            (criterion(critic(points), 0.9 * ones) + criterion(critic(made), zeros)).backward()
            other.step()
            one.zero_grad()
            fooled(generator, noise).backward()
            one.step()
    return Score((generator(torch.randn(500, 4)).mean(0) - real.mean(0)).norm().item(), far)


class Variational(nn.Module):
    """Pixels, means and logarithms of variances side by side; noise in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = models.mlp(64, 64, 12)
        self.decoder = models.mlp(6, 64, 64)

    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = self.encoder(x).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * (logvar / 2).exp() if self.training else mean
        return torch.cat([self.decoder(latent).sigmoid(), mean, logvar], 1)


@healthy("a variational autoencoder: two passes over a batch differ, and some codes stay unused")
def variational_autoencoder(ts: Any) -> Score:
    pixels = data.digits(raw=True).inputs / 16
    table, model = data.split(pixels, pixels.clone()), Variational()

    def bound(output: Tensor, x: Tensor) -> Tensor:
        made, mean, logvar = output[:, :64], output[:, 64:70], output[:, 70:]
        divergence = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(1)
        return ((made - x).square().sum(1) + 0.1 * divergence).mean()

    loops.fit(ts, model, table, bound, loops.adam(model), steps=300)
    return loops.regressed(lambda x: model(x)[:, :64], *table.test)


class Views(nn.Module):
    """Two views of each sample to two unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = models.mlp(64, 128, 32)

    def forward(self, views: Tensor) -> Tensor:
        return functional.normalize(self.encoder(views.flatten(0, 1)), dim=1).view(len(views), 2, -1)


@healthy("a contrastive loss: samples of a batch are compared on purpose, in the loss")
def contrast_of_two_views(ts: Any) -> Score:
    table, model = data.digits(), Views()
    optimizer = loops.adam(model)

    def contrast(model: nn.Module, views: Tensor) -> Tensor:
        pair = model(views)
        return functional.cross_entropy(pair[:, 0] @ pair[:, 1].T / 0.2, torch.arange(len(pair)))

    def views(x: Tensor) -> Tensor:
        return torch.stack([x + 0.5 * torch.randn_like(x), x + 0.5 * torch.randn_like(x)], 1)

    ts.preflight(model, views(table.inputs[:64]), contrast, optimizer=optimizer)
    with ts.watch(model, optimizer) as monitor:
        for (inputs,) in data.batches((table.inputs,), 64, 200):
            optimizer.zero_grad()
            loss = contrast(model, views(inputs))
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
    with torch.no_grad():
        reached = contrast(model, views(table.test_inputs[:64])).item()
    return Score(reached, torch.tensor(64.0).log().item())


@healthy("a policy learns from rewards: its loss is noise around zero")
def policy_from_rewards(ts: Any) -> Score:
    best = torch.randn(6, 4)
    model = models.mlp(6, 32, 4)
    optimizer = loops.adam(model, 1e-2)

    def play(states: Tensor) -> Tensor:
        with torch.no_grad():
            actions = torch.distributions.Categorical(logits=model(states)).sample()
        rewards = (actions == (states @ best).argmax(1)).float()
        return torch.stack([actions.float(), rewards - rewards.mean()], 1)

    def surprise(scores: Tensor, played: Tensor) -> Tensor:
        chosen = scores.log_softmax(1).gather(1, played[:, :1].long())[:, 0]
        return -(chosen * played[:, 1]).mean()

    states = torch.randn(128, 6)
    ts.preflight(model, (states, play(states)), surprise, optimizer=optimizer)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(300):
            states = torch.randn(128, 6)
            played = play(states)
            optimizer.zero_grad()
            loss = surprise(model(states), played)
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
    states = torch.randn(1000, 6)
    return loops.classified(model, states, (states @ best).argmax(1))


class TwoHeads(nn.Module):
    """A trunk, a head for classes and one for a number."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.classes, self.amount = nn.Linear(64, 10), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        trunk = self.trunk(x)
        return {"classes": self.classes(trunk), "amount": self.amount(trunk)}


@healthy("two tasks in one model, which returns a mapping; their losses are a hundred times apart")
def two_tasks(ts: Any) -> Score:
    table, model = data.digits(), TwoHeads()
    optimizer = loops.adam(model)

    def both(out: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        amount = functional.mse_loss(out["amount"], targets["amount"])
        return functional.cross_entropy(out["classes"], targets["classes"]) + 0.01 * amount

    def targets_of(inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"classes": labels, "amount": inputs.sum(1, keepdim=True)}

    first = table.inputs[:64]
    ts.preflight(model, (first, targets_of(first, table.targets[:64])), both, optimizer=optimizer)
    with ts.watch(model, optimizer) as monitor:
        for inputs, labels in data.batches(table.train, 64, 250):
            optimizer.zero_grad()
            loss = both(model(inputs), targets_of(inputs, labels))
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
    return loops.classified(lambda x: model(x)["classes"], *table.test)


@healthy("a student learns a teacher's probabilities: the loss starts small and its targets are no classes")
def student_of_a_teacher(ts: Any) -> Score:
    table, teacher, model = data.digits(), models.mlp(64, 64, 10), models.mlp(64, 24, 10)
    loops.trained_before(table, teacher, 10)
    labels = table.test_targets
    with torch.no_grad():
        table.targets, table.test_targets = (teacher(x).div(4).softmax(1) for x in (table.inputs, table.test_inputs))
    divergence = nn.KLDivLoss(reduction="batchmean")
    loops.fit(ts, model, table, lambda p, t: divergence((p / 4).log_softmax(1), t), loops.adam(model, 5e-3))
    return loops.classified(model, table.test_inputs, labels)


@healthy("a graph of points: every sample reaches its neighbours' outputs on purpose, half have no label")
def graph_of_neighbours(ts: Any) -> Score:
    table = data.digits()
    inputs, targets = table.inputs[:400], table.targets[:400]
    nearest = torch.cdist(inputs, inputs).topk(6, largest=False).indices
    links = torch.zeros(400, 400).scatter_(1, nearest, 1.0 / 6)
    shown = torch.where(torch.arange(400) % 2 == 0, targets, -100)

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(64, 48), nn.Linear(48, 10)

        def forward(self, x: Tensor) -> Tensor:
            return links @ self.second((links @ self.first(x)).relu())

    model, criterion = Graph(), CE(ignore_index=-100)
    optimizer = loops.adam(model, 1e-2)
    ts.preflight(model, (inputs, shown), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for _ in range(150):
            optimizer.zero_grad()
            criterion(model(inputs), shown).backward()
            optimizer.step()
    with torch.no_grad():
        return loops.classified(lambda x: x, model(inputs)[1::2], targets[1::2])


@healthy("several inputs by name, one of them a mask; the model computes what attention gathers at one position")
def batches_by_name(ts: Any) -> Score:
    table, criterion = data.sorted_tokens(), CE()

    class Padded(models.Classifier):
        def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
            x = self.tokens(tokens) + self.places
            for block in self.blocks:
                x = block(x, padding)
            return self.head(self.norm(x)[:, 0])

    model = Padded()
    optimizer = loops.adam(model)

    def batch(tokens: Tensor) -> dict[str, Tensor]:
        return {"tokens": tokens, "padding": tokens == 0}

    ts.preflight(model, (batch(table.inputs[:32]), table.targets[:32]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for tokens, targets in data.batches(table.train, 32, 200):
            optimizer.zero_grad()
            criterion(model(**batch(tokens)), targets).backward()
            optimizer.step()
    return loops.classified(lambda tokens: model(**batch(tokens)), *table.test)


@healthy("a denoiser that foretells noise: its loss starts at 1 and hardly falls")
def denoiser(ts: Any) -> Score:
    points = data.digits().inputs
    model, criterion = models.mlp(65, 128, 128, 64, act=nn.SiLU), nn.MSELoss()
    optimizer = loops.adam(model, 2e-3)

    def noised(x: Tensor) -> tuple[Tensor, Tensor]:
        share, noise = torch.rand(len(x), 1), torch.randn_like(x)
        return torch.cat([(1 - share).sqrt() * x + share.sqrt() * noise, share], 1), noise

    ts.preflight(model, noised(points[:128]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for (x,) in data.batches((points,), 128, 300):
            inputs, noise = noised(x)
            optimizer.zero_grad()
            criterion(model(inputs), noise).backward()
            optimizer.step()
    return loops.regressed(model, *noised(points))


class Coded(nn.Module):
    """The nearest of 32 codes in place of what the encoder says, with a straight-through gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = models.mlp(64, 48, 16), models.mlp(16, 48, 64)
        self.codes = nn.Parameter(torch.randn(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        encoded = self.encoder(x).view(-1, 2, 8)
        chosen = torch.cdist(encoded, self.codes).argmin(2)
        codes = self.codes[chosen]
        latent = (encoded + (codes - encoded).detach()).flatten(1)
        return torch.cat([self.decoder(latent), codes.flatten(1), encoded.flatten(1)], 1)


@healthy("codes chosen by argmin with a straight-through gradient; some codes are never chosen")
def nearest_codes(ts: Any) -> Score:
    pixels = data.digits(raw=True).inputs / 16
    table, model = data.split(pixels, pixels.clone()), Coded()

    def loss(out: Tensor, x: Tensor) -> Tensor:
        made, codes, encoded = out[:, :64], out[:, 64:80], out[:, 80:]
        tied = functional.mse_loss(codes, encoded.detach()) + 0.25 * functional.mse_loss(encoded, codes.detach())
        return functional.mse_loss(made, x) + 0.1 * tied

    loops.fit(ts, model, table, loss, loops.adam(model), steps=300)
    return loops.regressed(lambda x: model(x)[:, :64], *table.test)


@healthy("the likelihood of a normal distribution with a spread of its own: the loss falls below zero")
def spread_learned_too(ts: Any) -> Score:
    inputs = torch.rand(1500, 1) * 4 - 2
    targets = 0.3 * torch.sin(2 * inputs) + 0.02 * (1 + inputs.abs()) * torch.randn(1500, 1)
    table, model = data.split(inputs, targets), models.mlp(1, 48, 48, 2, act=nn.Tanh)
    gaussian = nn.GaussianNLLLoss()
    loops.fit(ts, model, table, lambda p, t: gaussian(p[:, :1], t, p[:, 1:].exp()), loops.adam(model, 5e-3), steps=300)
    return loops.regressed(lambda x: model(x)[:, :1], *table.test)


@healthy("several labels per sample, each of them rare")
def several_labels(ts: Any) -> Score:
    inputs = torch.randn(2000, 20)
    labels = (inputs @ torch.randn(20, 8) > 5.0).float()
    table, model = data.split(inputs, labels), models.mlp(20, 64, 8)
    loops.fit(ts, model, table, nn.BCEWithLogitsLoss(), loops.adam(model, 1e-2), steps=300)
    return loops.regressed(lambda x: model(x).sigmoid(), *table.test)


@healthy("sines as activations, and a target that waves")
def sine_activations(ts: Any) -> Score:
    class Sine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(5 * x)

    inputs = torch.rand(1000, 1) * 2 - 1
    table, model = data.split(inputs, torch.sin(12 * inputs)), models.mlp(1, 48, 48, 1, act=Sine)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 2e-3), steps=300)
    return loops.regressed(model, *table.test)


@healthy("the loss of triplets reaches exactly 0")
def triplets(ts: Any) -> Score:
    table, model, criterion = data.digits(), models.mlp(64, 64, 16), nn.TripletMarginLoss()
    start = copy.deepcopy(model)
    optimizer = loops.adam(model)
    by_class = [table.inputs[table.targets == number] for number in range(10)]

    def triple(targets: Tensor) -> Tensor:
        others = (targets + torch.randint(1, 10, targets.shape)) % 10
        rows = [
            [by_class[k][torch.randint(len(by_class[k]), ())] for k in (t, t, o)]
            for t, o in zip(targets, others, strict=True)
        ]
        return torch.stack([torch.stack(row) for row in rows])

    def apart(model: nn.Module, triples: Tensor) -> Tensor:
        return criterion(*(model(part) for part in triples.unbind(1)))

    ts.preflight(model, triple(table.targets[:32]), apart, optimizer=optimizer)
    with ts.watch(model, optimizer) as monitor:
        for (targets,) in data.batches((table.targets,), 32, 120):
            optimizer.zero_grad()
            loss = apart(model, triple(targets))
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
    held = triple(table.test_targets[:200])
    with torch.no_grad():
        return Score(apart(model, held).item(), apart(start, held).item())
