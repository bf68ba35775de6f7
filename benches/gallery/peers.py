"""The four tools from PyPI on the same programs, each used as its README says; each is imported where it is used."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from gallery.tools import Quiet, Told, Tool

__all__ = ["PEERS"]

AUDITED_EVERY = 10  # its README audits every 1000th step, and these runs have 200 to 400


def _listed(one_or_many: Any) -> list[Any]:
    if one_or_many is None:
        return []
    if isinstance(one_or_many, dict):
        return list(one_or_many.values())
    return list(one_or_many) if isinstance(one_or_many, list | tuple) else [one_or_many]


def _is_step(loss_fn: Any) -> bool:
    """Whether it is a step ``(model, batch) -> loss`` in place of a loss."""
    return not isinstance(loss_fn, nn.Module) and next(iter(inspect.signature(loss_fn).parameters)) == "model"


def _inputs_of(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) else batch


class TorchTest2(Tool):
    """``check_model`` on the first batch."""

    name = "torchtest2"

    def _preflight(self, model: Any, batch: Any, loss_fn: Any, optimizer: Any) -> None:
        import torchtest2

        if _is_step(loss_fn):  # it takes no such thing, and judges by a random projection of the outputs then
            report = torchtest2.check_model(model, _inputs_of(batch), optimizer=optimizer)
        else:
            report = torchtest2.check_model(model, *batch, loss_fn=loss_fn, optimizer=optimizer)
        for result in [*report.failures, *report.warnings]:
            status = "fail" if result.status.value == "FAIL" else "warn"
            self.told.append(Told(status, result.name, result.message, -1, result.message))


class TorchAudit(Tool):
    """``autopatch``; hints for hardware (TA2xx) and notes are not counted."""

    name = "torch-audit"

    @contextlib.contextmanager
    def watch(self, model: Any, optimizer: Any = None, *, loss_fn: Any = None, **_options: Any) -> Iterator[Any]:
        from torch_audit import autopatch

        del loss_fn
        chosen, optimizers = _listed(model), _listed(optimizer)
        auditors = [
            autopatch(
                one, optimizer=optimizers[min(place, len(optimizers) - 1)], every_n_steps=AUDITED_EVERY, reporters=[]
            )
            for place, one in enumerate(chosen)
        ]
        try:
            yield Quiet()
        finally:
            for auditor in auditors:
                for finding in auditor.finish(report=False).findings:
                    level = finding.severity.value
                    if level != "INFO" and not finding.rule_id.startswith("TA2"):
                        status = "warn" if level == "WARN" else "fail"
                        where = finding.entity or finding.module_path or ""
                        self.told.append(Told(status, finding.rule_id, where, finding.step, finding.message))
                auditor.unpatch()


class TorchMortem(Tool):
    """``Autopsy`` around the loop; it is told the loss after every step of the optimizer."""

    name = "torchmortem"

    @contextlib.contextmanager
    def watch(self, model: Any, optimizer: Any = None, *, loss_fn: Any = None, **_options: Any) -> Iterator[Any]:
        from torchmortem import Autopsy

        optimizers, last = _listed(optimizer), [float("nan")]
        monitor = _Hears(last)
        handles = []
        if isinstance(loss_fn, nn.Module):
            handles.append(loss_fn.register_forward_hook(lambda _module, _given, loss: monitor.log_loss(loss)))
        autopsies = [
            Autopsy(one, optimizer=optimizers[min(place, len(optimizers) - 1)])
            for place, one in enumerate(_listed(model))
        ]

        def stepped(*_given: Any) -> None:
            for autopsy in autopsies:
                autopsy.step(loss=last[0])

        handles.append(optimizers[-1].register_step_post_hook(stepped))
        try:
            with contextlib.ExitStack() as stack:
                for autopsy in autopsies:
                    stack.enter_context(autopsy)
                yield monitor
        finally:
            for handle in handles:
                handle.remove()
            for autopsy in autopsies:
                report = autopsy.get_report()
                for finding in report.findings if report is not None else []:
                    if finding.severity.name != "INFO":
                        status = "fail" if finding.severity.name == "CRITICAL" else "warn"
                        where = " ".join(finding.affected_layers)
                        text = f"{finding.title} {finding.summary}"
                        self.told.append(Told(status, finding.detector, where, None, text))


class _Hears(Quiet):
    """Keeps the last loss of training."""

    def __init__(self, last: list[float]) -> None:
        self._last = last

    def log_loss(self, loss: Any, *, predictions: Any = None, targets: Any = None) -> None:
        """Keep it; a loss that no gradient flows from is one of validation."""
        del predictions, targets
        if not isinstance(loss, Tensor) or loss.requires_grad:
            self._last[0] = float(loss)


class TorchDiag(Tool):
    """``check_dead_neurons`` and ``verify_step`` before the loop, ``check_gradients`` before every 50th step."""

    name = "torchdiag"

    def _preflight(self, model: Any, batch: Any, loss_fn: Any, optimizer: Any) -> None:
        import torchdiag

        inputs = _inputs_of(batch)
        for layer, found in torchdiag.check_dead_neurons(model, inputs).items():
            if found["dead_pct"] > 20:
                status = "fail" if found["dead_pct"] > 50 else "warn"
                self.told.append(Told(status, "dead-neurons", layer, -1, f"{found['dead_pct']:.0f} % dead"))
        if _is_step(loss_fn):
            return
        verified = torchdiag.verify_step(model, optimizer, loss_fn, *batch)
        failed = [f"{part}: {said}" for part, said in verified.items() if str(said).startswith("FAILED")]
        if verified.get("loss") in (float("inf"), float("-inf")) or verified.get("loss") != verified.get("loss"):
            failed.append("loss is not finite")
        if verified.get("params_unchanged") and not verified.get("params_updated"):
            failed.append("no parameters changed")
        self.told += [Told("fail", "verify-step", "", -1, text) for text in failed]
        self._gradients(model, -1)

    def _gradients(self, model: Any, step: int) -> None:
        import torchdiag

        for layer, found in torchdiag.check_gradients(model).items():
            if found["status"] != "OK":
                self.told.append(Told("fail", "gradients", layer, step, found["status"]))

    @contextlib.contextmanager
    def watch(self, model: Any, optimizer: Any = None, *, loss_fn: Any = None, **_options: Any) -> Iterator[Any]:
        del loss_fn
        count = [0]

        def before(*_given: Any) -> None:
            if count[0] % 50 == 0:
                for one in _listed(model):
                    self._gradients(one, count[0])
            count[0] += 1

        handle = _listed(optimizer)[-1].register_step_pre_hook(before)
        try:
            yield Quiet()
        finally:
            handle.remove()


PEERS = (TorchTest2, TorchAudit, TorchMortem, TorchDiag)
