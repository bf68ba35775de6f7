"""The transformers callback, on a tiny model with random weights: what the Trainer does is seen, and left as it is."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from tensorstats.integrations.transformers import WatchCallback  # noqa: E402

# What torch says of pinned memory where there is no accelerator; the Trainer asks for it by default.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(r"ignore:'pin_memory' argument is set as true but no accelerator is found"),
]

STEPS, BATCH = 12, 4


def model() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def dataset() -> list[dict[str, Any]]:
    tokens = torch.randint(32, (STEPS * BATCH * 2, 12), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": row} for row in tokens]


def train(network: Any, *callbacks: Any, folder: Path, **options: Any) -> Any:
    settings = {"learning_rate": 1e-3, "max_steps": STEPS, "per_device_train_batch_size": BATCH, **options}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        logging_steps=5,
        **settings,
    )
    trainer = transformers.Trainer(network, arguments, train_dataset=dataset(), callbacks=list(callbacks))
    trainer.train()
    return trainer


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def hooks_of(network: Any) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules())


def test_the_training_is_the_same_and_every_step_is_recorded(tmp_path: Path):
    bare = train(model(), folder=tmp_path)
    callback = WatchCallback()
    network = model()
    watched = train(network, callback, folder=tmp_path)
    assert losses_of(watched) == losses_of(bare)
    assert len(losses_of(bare)) == 2
    assert callback.monitor.errors == callback.findings == []
    for signal, name in (
        ("outputs", "transformer.h.0.mlp.c_fc"),
        ("gradients", "transformer.wte.weight"),
        ("updates", "transformer.h.1.attn.c_attn.weight"),
    ):
        assert callback.monitor.series(signal, name, "l2")[0].tolist() == list(range(STEPS))
    assert hooks_of(network) == 0


def test_losses_come_from_what_the_model_returns(tmp_path: Path):
    callback = WatchCallback()
    train(model(), callback, folder=tmp_path)
    losses = callback.monitor._reading._judge.losses
    assert losses.steps == list(range(STEPS))
    # ln 32, for nothing is known at first; the Trainer divides by all 12 tokens, of which 11 have one to predict.
    assert losses.values[0] == pytest.approx(math.log(32) * 11 / 12, abs=0.05)


def test_a_frozen_block_is_named_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    network = model()
    callback = WatchCallback()
    decaying = [value for name, value in network.named_parameters() if ".h.1." not in name]
    optimizer = torch.optim.AdamW(decaying, lr=1e-3)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        max_steps=STEPS,
        dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(
        network, arguments, train_dataset=dataset(), callbacks=[callback], optimizers=(optimizer, None)
    )
    with caplog.at_level(logging.WARNING, logger="tensorstats"):
        trainer.train()
    first = callback.findings[0]
    assert (first.rule, first.where, first.status) == ("frozen", "transformer.h.1", "failure")
    assert sum("frozen at transformer.h.1" in record.getMessage() for record in caplog.records) == 1


def test_accumulated_batches_are_one_step(tmp_path: Path):
    callback = WatchCallback()
    train(model(), callback, folder=tmp_path, gradient_accumulation_steps=2, max_steps=6)
    assert callback.monitor.step == 6
    assert callback.monitor.latest("outputs", "lm_head").count == 2 * BATCH * 12 * 32
    assert not [name for name in callback.monitor.names("outputs") if "#" in name]


def test_nothing_stays_attached_when_training_raises(tmp_path: Path):
    class Failing(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == 3:
                raise RuntimeError("planted")

    network = model()
    with pytest.raises(RuntimeError, match="planted"), WatchCallback() as callback:
        train(network, callback, Failing(), folder=tmp_path)
    assert hooks_of(network) == 0
    assert callback.monitor.step == 3


def test_without_a_training_there_is_nothing_to_read():
    callback = WatchCallback()
    assert callback.findings == []
    assert callback.report() == ""
    with pytest.raises(AttributeError, match="no monitor before training"):
        callback.monitor  # noqa: B018
