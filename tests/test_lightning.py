"""The Lightning callback: attached while `fit` trains, gone afterwards, findings as in a plain loop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
# Importing Lightning imports torchmetrics, and that transformers' optional parts.
lightning = pytest.importorskip("lightning.pytorch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import tensorstats as ts  # noqa: E402
from tensorstats.integrations.lightning import WatchCallback  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # Lightning 2.6 calls what torch 2.15 calls deprecated.
    pytest.mark.filterwarnings(r"ignore:.*LeafSpec.*is deprecated:FutureWarning"),
    pytest.mark.filterwarnings(r"ignore:.*isinstance\(treespec, LeafSpec\).*"),
    # Advice of Lightning on loaders and loggers, for trainings longer than these.
    pytest.mark.filterwarnings(r"ignore:.*does not have many workers which may be a bottleneck"),
    pytest.mark.filterwarnings(r"ignore:The number of training batches .* is smaller than the logging interval"),
]

SAMPLES, BATCH = 320, 16


def regression() -> Any:
    inputs = torch.randn(SAMPLES, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=BATCH)


class Module(lightning.LightningModule):
    """Calls its network, never itself, as most `training_step`s do."""

    def __init__(self, *, bias: float = 0.0, fail_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
        nn.init.constant_(self.net[0].bias, bias)
        self.fail_at = fail_at
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.fail_at == batch_idx:
            raise RuntimeError("planted")
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class TwoOptimizers(Module):
    """Two parts trained in turn by hand, as in a GAN."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        made = self.net(batch[0])
        first.zero_grad()
        self.manual_backward((made - batch[1]).square().mean())
        first.step()
        second.zero_grad()
        self.manual_backward((self.critic(made.detach()) - 1).square().mean())
        second.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net.parameters(), lr=0.01), torch.optim.SGD(self.critic.parameters(), lr=0.01)]


def fit(module: Any, *callbacks: Any, folder: Path, **options: Any) -> Any:
    settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **options}
    trainer = lightning.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, regression())
    return trainer


def hooks_of(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_the_training_is_the_same_and_every_step_is_recorded(tmp_path: Path):
    bare, watched, callback = Module(), Module(), WatchCallback()
    fit(bare, folder=tmp_path)
    fit(watched, callback, folder=tmp_path)
    assert watched.losses == bare.losses
    steps = SAMPLES // BATCH
    assert callback.monitor.step == steps
    assert callback.findings == callback.monitor.errors == []
    for signal, name in (("outputs", "net.0"), ("gradients", "net.0.weight"), ("updates", "net.2.bias")):
        assert callback.monitor.series(signal, name, "l2")[0].tolist() == list(range(steps))
    assert "no findings" in callback.report()


def test_a_dead_layer_is_named_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    callback = WatchCallback()
    with caplog.at_level(logging.WARNING, logger="tensorstats"):
        fit(Module(bias=-10.0), callback, folder=tmp_path, max_epochs=3)
    first = callback.findings[0]
    assert (first.rule, first.where, first.step) == ("dead-units", "net.1", 0)
    assert sum("dead-units at net.1" in record.getMessage() for record in caplog.records) == 1


def test_a_batch_is_one_call_of_every_module_when_gradients_are_accumulated(tmp_path: Path):
    callback = WatchCallback()
    module = Module()
    fit(module, callback, folder=tmp_path, accumulate_grad_batches=4, gradient_clip_val=1.0)
    assert callback.monitor.step == SAMPLES // BATCH // 4
    assert callback.monitor.names("outputs") == ["net.0", "net.1", "net.2"]
    assert callback.monitor.latest("outputs", "net.2").count == 4 * BATCH
    logged = callback.monitor._reading._judge.losses.values
    assert logged == pytest.approx(module.losses)


def test_a_nan_in_the_batch_is_traced_to_the_batch(tmp_path: Path):
    callback = WatchCallback()
    inputs = torch.randn(64, 8)
    inputs[37, 3] = torch.nan
    loader = DataLoader(TensorDataset(inputs, torch.zeros(64, 1)), batch_size=BATCH)
    trainer = lightning.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=[callback],
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), loader)
    first = callback.findings[0]
    assert (first.rule, first.where, first.step) == ("non-finite", "input batch[0]", 2)
    assert "[5, 3]" in first.why


@pytest.mark.parametrize("fail_at", [None, 5])
def test_nothing_stays_attached(tmp_path: Path, fail_at: int | None):
    module, callback = Module(fail_at=fail_at), WatchCallback()
    before = hooks_of(module)
    if fail_at is None:
        trainer = fit(module, callback, folder=tmp_path)
        assert not trainer.optimizers or not trainer.optimizers[0]._optimizer_step_post_hooks
    else:
        with pytest.raises(RuntimeError, match="planted"):
            fit(module, callback, folder=tmp_path)
        assert callback.monitor.step == fail_at
    assert hooks_of(module) == before
    assert "closed" in repr(callback.monitor)


def test_a_second_fit_is_watched_anew(tmp_path: Path):
    module, callback = Module(), WatchCallback(every=5)
    fit(module, callback, folder=tmp_path)
    first = callback.monitor
    fit(module, callback, folder=tmp_path)
    assert callback.monitor is not first
    assert callback.monitor.series("outputs", "net.0", "mean")[0].tolist() == [0, 5, 10, 15]


def test_two_optimizers_make_one_step_together(tmp_path: Path):
    module, callback = TwoOptimizers(), WatchCallback()
    fit(module, callback, folder=tmp_path)
    monitor = callback.monitor
    assert set(monitor.names("outputs")) == {f"{part}.{place}" for part in ("net", "critic") for place in range(3)}
    assert monitor.step == SAMPLES // BATCH
    for name in ("net.0.weight", "critic.2.bias"):
        assert len(monitor.series("updates", name, "l2")[0]) == SAMPLES // BATCH
    assert callback.findings == monitor.errors == []


def test_scalars_go_to_the_loggers_of_the_trainer(tmp_path: Path):
    from lightning.pytorch.loggers import CSVLogger

    callback = WatchCallback(scalars={"gradients": "l2", "outputs": "std"})
    trainer = fit(Module(), callback, folder=tmp_path, logger=CSVLogger(tmp_path), log_every_n_steps=5)
    rows = [line.split(",") for line in Path(trainer.logger.log_dir, "metrics.csv").read_text().splitlines()]
    head, values = rows[0], rows[1:]
    assert {"gradients/net.0.weight/l2", "outputs/net.2/std", "step"} <= set(head)
    assert [row[head.index("step")] for row in values] == ["5", "10", "15", "20"]
    last = float(values[-1][head.index("outputs/net.2/std")])
    assert last == pytest.approx(callback.monitor.latest("outputs", "net.2").std())


def test_a_field_that_is_no_number_is_refused_at_once():
    with pytest.raises(ValueError, match=r"such as 'l2', 'mean' or 'std', got 'size'"):
        WatchCallback(scalars={"gradients": "size"})


def test_own_callable_gets_the_findings(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    got: list[ts.torch.Finding] = []
    with caplog.at_level(logging.WARNING, logger="tensorstats"):
        fit(Module(bias=-10.0), WatchCallback(on_finding=got.append), folder=tmp_path, max_epochs=3)
    assert "dead-units" in {finding.rule for finding in got}
    assert not [record for record in caplog.records if record.name == "tensorstats"]


def test_without_a_training_there_is_nothing_to_read():
    callback = WatchCallback()
    assert (callback.findings, callback.report()) == ([], "")
    with pytest.raises(AttributeError, match="no monitor before training"):
        callback.monitor  # noqa: B018
