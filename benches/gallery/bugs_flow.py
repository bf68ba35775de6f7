"""Bugs of our own: information that flows where it must not, or does not flow where it must."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gallery import causes, data, loops, models
from gallery.program import Score, bug

LEAK, LOST = "information that must not flow", "information that does not flow"
CE = nn.CrossEntropyLoss


@bug(
    LEAK,
    "a language model without its causal mask: it reads the token it is to foretell",
    causes=causes.FUTURE,
)
def language_model_without_mask(ts: Any) -> Score:
    inputs, targets, size = data.text_windows(16)
    table, model = data.split(inputs, targets), models.Language(size, 16, causal=False)
    loops.fit(ts, model, table, CE(), loops.adam(model, 5e-3), size=32, steps=200)
    return loops.next_token(model, *table.test)


@bug(
    LEAK,
    "the shift by one was forgotten: input and target are the same tokens",
    causes=(*causes.COPIED, "~same as|identical|equal"),
)
def shift_by_one_forgotten(ts: Any) -> Score:
    inputs, targets, size = data.text_windows(16)
    table, model = data.split(inputs, inputs.clone()), models.Language(size, 16)
    loops.fit(ts, model, table, CE(), loops.adam(model, 3e-3), size=32, steps=150)
    return loops.next_token(model, inputs[:300], targets[:300])


class BatchSecond(nn.Module):
    """Attention that takes the samples for the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(12, 32)
        self.attention = nn.MultiheadAttention(32, 4)
        self.head = nn.Linear(32, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


@bug(
    LEAK,
    "attention without batch_first: samples attend to each other",
    causes=causes.MIX,
    place="attention",
)
def attention_across_samples(ts: Any) -> Score:
    table, model = data.sorted_tokens(), BatchSecond()
    loops.fit(ts, model, table, CE(), loops.adam(model), size=32, steps=150)
    return loops.classified(model, *table.test)


@bug(
    LEAK,
    "a GRU without batch_first: one sample's state goes on into the next",
    causes=causes.MIX,
    place="cell",
)
def recurrence_across_samples(ts: Any) -> Score:
    table, model = data.waves(), models.Recurrent(batch_first=False)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 1e-2), size=32, steps=150)
    return loops.regressed(model, *table.test)


class NormOverBatch(nn.Module):
    """Embeddings normalised along the wrong dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.body = models.mlp(64, 64, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.normalize(self.body(x), dim=0))


@bug(
    LEAK,
    "normalize(dim=0) where dim=1 was meant: each sample depends on all others",
    causes=causes.MIX,
)
def normalised_over_the_batch(ts: Any) -> Score:
    table, model = data.digits(), NormOverBatch()
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=200)
    return loops.classified(model, *table.test)


@bug(
    LEAK,
    "the window of a forecast holds the value to be foretold",
    causes=causes.COPIED,
)
def target_within_the_window(ts: Any) -> Score:
    table, model = data.waves(), models.mlp(21, 32, 1)
    table.inputs = torch.cat([table.inputs[:, :, 0], table.targets], 1)
    table.test_inputs = torch.cat([table.test_inputs[:, :, 0], torch.zeros_like(table.test_targets)], 1)
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model))
    return loops.regressed(model, *table.test)


class Padded(models.Classifier):
    """Gets its padding mask as an input of its own, and averages what attention has gathered at the first position."""

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places
        for block in self.blocks:
            x = block(x, padding)
        return self.head(self.norm(x)[:, 0])


@bug(
    LOST,
    "the padding mask is upside down: attention looks at padding alone",
    causes=causes.MASK + causes.UNUSED_INPUT,
    place="block|attention|tokens|padding|input",
)
def padding_mask_upside_down(ts: Any) -> Score:
    table, model, criterion = data.sorted_tokens(), Padded(), CE()
    optimizer = loops.adam(model)

    def batch(tokens: Tensor) -> dict[str, Tensor]:
        padding = tokens != 0  # True is where attention does not look
        padding[:, -1] = False
        return {"tokens": tokens, "padding": padding}

    ts.preflight(model, (batch(table.inputs[:32]), table.targets[:32]), criterion, optimizer=optimizer)
    with ts.watch(model, optimizer, loss_fn=criterion):
        for tokens, targets in data.batches(table.train, 32, 200):
            optimizer.zero_grad()
            criterion(model(**batch(tokens)), targets).backward()
            optimizer.step()
    return loops.classified(lambda tokens: model(**batch(tokens)), *table.test)


class Unmasked(models.Classifier):
    """Averages padding in."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(12, 32)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, -1])


@bug(
    LOST,
    "the last position is read out, which is padding for most, and no mask is handed on",
    causes=causes.MASK,
)
def padding_read_out(ts: Any) -> Score:
    table, model = data.sorted_tokens(), Unmasked()
    loops.fit(ts, model, table, CE(), loops.adam(model), size=32, steps=120)
    return loops.classified(model, *table.test)


class TwoTowers(nn.Module):
    """Both towers get the first half of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = models.mlp(15, 16), models.mlp(15, 16)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = x[:, :15], x[:, 15:]
        del other
        return self.head(torch.cat([self.left(one), self.right(one)], 1).relu())


@bug(
    LOST,
    "the second tower gets the input of the first: half of the features do not matter",
    causes=causes.UNUSED_INPUT,
)
def second_tower_gets_the_first_input(ts: Any) -> Score:
    table, model = data.cancer(), TwoTowers()
    loops.fit(ts, model, table, CE(), loops.adam(model), size=32)
    return loops.classified(model, *table.test)


class Forgetful(nn.Module):
    """Reads out its start state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(1, 24, batch_first=True)
        self.start = nn.Parameter(torch.zeros(1, 1, 24))
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        start = self.start.expand(1, len(x), 24).contiguous()
        _states, _last = self.cell(x, start)
        return self.head(start[0])


@bug(
    LOST,
    "the state before the sequence is read out in place of the one after it",
    causes=causes.UNUSED_INPUT + causes.SAME_OUTPUT + causes.UNREACHED,
    place="cell|start|head",
)
def start_state_read_out(ts: Any) -> Score:
    table, model = data.waves(), Forgetful()
    loops.fit(ts, model, table, nn.MSELoss(), loops.adam(model, 1e-2), size=32, steps=120)
    return loops.regressed(model, *table.test)


class Rounded(nn.Module):
    """Whole numbers between its halves."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = models.mlp(64, 64, 16)
        self.decoder = models.mlp(16, 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.round(4 * self.encoder(x)) / 4)


@bug(
    LOST,
    "a code is rounded without a straight-through gradient",
    causes=causes.LOST + causes.VANISHES,
    place="encoder",
)
def rounded_code(ts: Any) -> Score:
    table, model = data.digits(), Rounded()
    loops.fit(ts, model, table, CE(), loops.adam(model), steps=200)
    return loops.classified(model, *table.test)
