"""What `ts.preflight` takes and returns: batches of every form, losses and steps, expectations, reports and errors."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import tensorstats as ts  # noqa: E402
from tensorstats.preflight import Check, Measurement, Preflight, PreflightError, Skip, default_checks  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def batch(n: int = 64, inputs: int = 6, classes: int = 3) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, inputs, generator=generator)
    return x, x[:, :classes].argmax(1)


def mlp(inputs: int = 6, outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


def state(report: Preflight, check: str) -> str:
    return next(each.state for each in report.checks if each.id == check)


def note(report: Preflight, check: str) -> str:
    return next(each.note for each in report.checks if each.id == check)


# --- the ways to call it ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import tensorstats as ts; f = ts.preflight; g = ts.preflight; import tensorstats.preflight.report",
        "import tensorstats.preflight; import tensorstats as ts; f = ts.preflight; g = tensorstats.preflight",
    ],
)
def test_the_function_is_found_however_the_room_is_imported(code: str):
    call = "(nn.Linear(2, 2), (torch.randn(4, 2), torch.arange(4) % 2), nn.CrossEntropyLoss(), checks=[])"
    code += f"; import torch; from torch import nn; print(f{call}.ok, g{call}.ok, ts.preflight{call}.ok)"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=100, capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 3


@pytest.mark.parametrize("form", ["tuple", "list", "loader", "dict"])
def test_batches_of_every_form(form: str):
    x, y = batch()
    loss: Any = nn.CrossEntropyLoss()
    given: Any = (x, y)
    if form == "list":
        given = [x, y]
    elif form == "loader":
        given = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=64)
    elif form == "dict":
        given, loss = {"x": x, "labels": y}, lambda model, b: F.cross_entropy(model(b["x"]), b["labels"])
    report = ts.preflight(mlp(), given, loss)
    assert report.findings == []
    assert state(report, "initial-loss") == state(report, "overfit") == state(report, "samples-mix") == "PASS"


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, *, left: Any, right: Any, mask: Any = None) -> Any:
        return self.net(torch.cat([left, right], 1))


class Whole(nn.Module):
    """Takes its mapping or its list as one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, given: Any) -> Any:
        left, right = given.values() if isinstance(given, dict) else given
        return self.net(torch.cat([left, right], 1))


class WithLoss(nn.Module):
    """Returns its loss, as models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Any, labels: Any) -> Any:
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize("kind", ["named", "whole mapping", "whole list", "own loss", "own loss by position"])
def test_models_with_several_inputs(kind: str):
    x, y = batch()
    halves: Any = {"left": x[:, :3], "right": x[:, 3:]}
    programs: dict[str, Any] = {
        "named": (Named(), ({**halves, "mask": torch.ones(3, 3)}, y), nn.CrossEntropyLoss()),
        "whole mapping": (Whole(), (halves, y), nn.CrossEntropyLoss()),
        "whole list": (Whole(), ([x[:, :3], x[:, 3:]], y), nn.CrossEntropyLoss()),
        "own loss": (WithLoss(), {"x": x, "labels": y}, None),
        "own loss by position": (WithLoss(), (x, y), None),
    }
    report = ts.preflight(*programs[kind])
    assert report.findings == []
    assert state(report, "overfit") == state(report, "initial-loss") == "PASS"


@pytest.mark.parametrize("name", ["model", "net", "anything"])
def test_a_step_in_place_of_a_loss(name: str):
    scope: dict[str, Any] = {"F": F}
    exec(f"def step({name}, batch):\n x, y = batch\n return F.cross_entropy({name}(x), y)", scope)
    report = ts.preflight(mlp(), batch(), scope["step"])
    assert report.findings == []
    assert state(report, "loss-ignores-targets") in ("PASS", "SKIP")


def test_a_step_whose_loss_nobody_knows_skips_what_needs_targets_and_says_why():
    x, _ = batch()
    report = ts.preflight(mlp(), x, lambda model, batch: model(batch).square().mean() + model(batch).std().neg().exp())
    assert state(report, "initial-loss") == "SKIP"
    assert "loss_fn(predictions, targets)" in note(report, "initial-loss")
    assert state(report, "no-gradient") == "PASS"


def test_a_loss_by_hand_is_known_by_what_it_answers():
    x, _ = batch()
    y = 3 + x[:, :1] * x[:, 1:2]
    for loss in (lambda p, t: (p - t).pow(2).mean(), lambda p, t: (p - t).abs().mean()):
        report = ts.preflight(mlp(6, 1), (x, y), loss)
        assert report.findings == []
        assert state(report, "initial-loss") == state(report, "loss-sign") == state(report, "target-scale") == "PASS"
    by_hand = lambda p, t: -p.log_softmax(1)[torch.arange(len(t)), t].mean()  # noqa: E731
    report = ts.preflight(nn.Sequential(mlp(), nn.Softmax(1)), batch(), by_hand)
    assert report.findings[0].rule == "loss-input"


def test_several_optimizers_and_wrappers():
    model = mlp()
    two = [torch.optim.Adam(model[0].parameters(), 1e-2), torch.optim.SGD(model[2].parameters(), 0.1)]
    for given in (two, {"a": two[0], "b": two[1]}):
        assert ts.preflight(model, batch(), nn.CrossEntropyLoss(), given).findings == []
    report = ts.preflight(model, batch(), nn.CrossEntropyLoss(), two[0])
    assert [finding.rule for finding in report.findings] == ["not-in-optimizer"]
    assert report.findings[0].where == "2"

    class Wrapper:
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

    model = mlp()
    wrapped = Wrapper(torch.optim.Adam(model.parameters(), 1e-2))
    assert ts.preflight(model, batch(), nn.CrossEntropyLoss(), wrapped).findings == []


def test_lbfgs_takes_its_closure():
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)
    assert ts.preflight(model, batch(), nn.CrossEntropyLoss(), optimizer).findings == []


def test_a_whole_data_set_is_thinned_out_for_the_model_but_looked_at_as_a_whole():
    x, y = batch(5000)
    x[4321, 2] = float("nan")
    report = ts.preflight(mlp(), (x, y), nn.CrossEntropyLoss())
    assert report.findings[0].rule == "data-nonfinite"
    assert "[4321, 2]" in report.findings[0].why


# --- options ----------------------------------------------------------------------------------------------------------


def test_expected_layers_and_parameters():
    numbers = {"layers": 2, "parameters": 6 * 16 + 16 + 16 * 3 + 3}
    assert state(ts.preflight(mlp(), batch(), nn.CrossEntropyLoss(), expect=numbers), "expected-size") == "PASS"
    report = ts.preflight(mlp(), batch(), nn.CrossEntropyLoss(), expect={"layers": 3})
    assert report.findings[0].rule == "expected-size"
    assert "It has 2 layers; 3 were expected." in report.findings[0].why


def test_causal_can_be_asked_for_and_ruled_out():
    torch.manual_seed(0)
    x = torch.randn(32, 6, 4)

    class Sum(nn.Module):
        def __init__(self, reverse: bool) -> None:
            super().__init__()
            self.net, self.reverse = nn.Linear(4, 4), reverse

        def forward(self, x: Any) -> Any:
            h = self.net(x)
            return h.flip(1).cumsum(1).flip(1) if self.reverse else h.cumsum(1)

    y = torch.randn(32, 6, 4)
    for reverse, causal, expected in [
        (True, True, "FAIL"),
        (False, True, "PASS"),
        (True, None, "SKIP"),
        (True, False, "SKIP"),
    ]:
        report = ts.preflight(Sum(reverse), (x, y), nn.MSELoss(), causal=causal)
        assert state(report, "future-leaks") == expected


def test_sequences_with_time_first_are_no_samples_that_mix():
    torch.manual_seed(0)

    class TimeFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(4, 16), nn.Linear(16, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0][-1])

    x = torch.randn(7, 64, 4)
    report = ts.preflight(TimeFirst(), (x, x.mean(0)[:, :3].argmax(1)), nn.CrossEntropyLoss())
    assert report.findings == []
    assert state(report, "samples-mix") == "PASS"


def test_the_reference_on_request():
    pytest.importorskip("sklearn")
    x, y = batch(200)
    report = ts.preflight(mlp(), (x, y), nn.CrossEntropyLoss(), torch.optim.Adam(mlp().parameters()), reference=True)
    assert "reference" in [check.id for check in report.checks]
    model = mlp()
    report = ts.preflight(
        model, (x, y), nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), 1e-2), reference=True
    )
    assert state(report, "reference") == "PASS"
    slow = torch.optim.Adam(model.parameters(), 1e-6)
    report = ts.preflight(model, (x, y), nn.CrossEntropyLoss(), slow, reference=True)
    assert state(report, "reference") == "WARN"
    assert "logistic regression" in note(report, "reference")
    y = (x @ torch.arange(6.0)[:, None]) / 10
    report = ts.preflight(mlp(6, 1), (x, y), nn.MSELoss(), reference=True)
    assert "R2" in note(report, "reference") or state(report, "reference") == "PASS"


def test_little_time_skips_the_trainings_and_says_so():
    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: Any) -> Any:
            import time

            time.sleep(0.01)
            return self.net(x)

    report = ts.preflight(Slow(), batch(), nn.CrossEntropyLoss(), torch.optim.SGD(mlp().parameters(), 0.1), seconds=0.3)
    assert report.seconds < 3
    report = ts.preflight(Slow(), batch(), nn.CrossEntropyLoss(), seconds=0.3)
    assert state(report, "overfit") == "SKIP"
    assert "time" in note(report, "overfit")
    assert report.findings == []


def test_a_check_of_ones_own_in_a_few_lines():
    class NoBias(Check):
        id, asks, status = "bias", "has no layer a bias?", "warning"
        advice = "Pass bias=False."
        leads_to = frozenset({"expected-size"})

        def measure(self, subject: Any) -> Any:
            yield from (
                Measurement(name, 1.0, "It has a bias.")
                for name, module in subject.model.named_modules()
                if getattr(module, "bias", None) is not None
            )

    checks = [NoBias(), *default_checks()]
    report = ts.preflight(mlp(), batch(), nn.CrossEntropyLoss(), expect={"layers": 7}, checks=checks)
    assert [finding.rule for finding in report.findings] == ["bias"]
    assert report.findings[0].consequences == ("expected-size at (model)",)
    assert report.findings[0].status == "failure"  # what follows from it fails
    assert "Also at 2." in report.findings[0].why


# --- what is returned -------------------------------------------------------------------------------------------------


def bad_report() -> Preflight:
    x, y = batch()
    x[:, 5] = float("inf")
    return ts.preflight(nn.Sequential(mlp(), nn.Softmax(1)), (x, y), nn.CrossEntropyLoss(), expect={"layers": 3})


def test_the_report_fits_a_screen_verdict_first_worst_first():
    report = bad_report()
    lines = str(report).splitlines()
    assert lines[0].startswith("FAIL  ")
    assert len(lines) <= 58
    assert max(map(len, lines)) <= 110
    places = [str(report).index(f"{finding.rule} at") for finding in report.findings]
    assert places == sorted(places)
    statuses = [finding.status for finding in report.findings]
    assert statuses == sorted(statuses)
    assert "report.text(all=True)" in str(report)
    full = str(report.text(all=True))
    assert all(check.id in full for check in report.checks)


def test_the_report_is_what_all_judges_return():
    report = bad_report()
    assert not report.ok
    assert report.verdict == "FAIL"
    data = json.loads(report.to_json())
    assert data["verdict"] == "FAIL"
    assert {check["state"] for check in data["checks"]} <= {"PASS", "WARN", "FAIL", "SKIP"}
    assert json.loads(report.to_sarif())["runs"][0]["results"][0]["ruleId"] == report.findings[0].rule
    assert "FAIL" in report._repr_html_()
    again = pickle.loads(pickle.dumps(report))
    assert str(again) == str(report)
    assert again.findings == report.findings
    assert again.checks == report.checks


def test_every_skip_has_a_reason():
    for check in ts.preflight(mlp(), batch(4), nn.CrossEntropyLoss()).checks:
        assert check.state != "SKIP" or len(check.note) > 10


def test_it_says_the_same_each_time():
    reports = []
    for seed in range(2):
        torch.manual_seed(seed)
        drop = nn.Sequential(mlp(), nn.Dropout(0.5))
        reports.append(ts.preflight(drop, batch(), nn.CrossEntropyLoss()))
    assert [c.note for c in reports[0].checks] == [c.note for c in reports[1].checks]


def test_the_table_of_the_docs_has_every_check_in_order():
    page = (Path(__file__).parent.parent / "docs" / "preflight.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert listed == [check.id for check in default_checks(reference=True)]


def test_causes_name_checks_that_come_after_them():
    ids = [check.id for check in default_checks(reference=True)]
    assert len(set(ids)) == len(ids)
    for place, check in enumerate(default_checks()):
        assert check.leads_to <= set(ids[place + 1 :]), (check.id, check.leads_to - set(ids[place + 1 :]))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_called_is_one_clear_error():
    with pytest.raises(PreflightError, match=r"first forward pass .* RuntimeError: .*mat1 .*inputs float32\[64, 6\]"):
        ts.preflight(mlp(5), batch(), nn.CrossEntropyLoss())


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((None, 1, 2), {}, TypeError, "model must be a torch.nn.Module, got NoneType"),
        ((nn.Linear(2, 2), "text", nn.MSELoss()), {}, TypeError, "batch with tensors in it.*got str"),
        ((nn.Linear(2, 2), batch(), 3), {}, TypeError, "loss_fn must be a callable, got int"),
        ((nn.Linear(2, 2), batch(), nn.MSELoss(), "adam"), {}, TypeError, "optimizer must be.*got str"),
        (
            (nn.Linear(2, 2), batch(), nn.MSELoss()),
            {"expect": {"heads": 2}},
            ValueError,
            "layers and parameters.*heads",
        ),
        ((nn.Linear(2, 2), batch(), nn.MSELoss()), {"seconds": 0}, ValueError, "seconds must be positive, got 0"),
        ((nn.LazyLinear(2), batch(), nn.MSELoss()), {}, ValueError, "lazy parameters"),
    ],
)
def test_wrong_arguments(arguments: Any, options: Any, error: Any, text: str):
    with pytest.raises(error, match=text):
        ts.preflight(*arguments, **options)


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(PreflightError, match=r"a loss must be one number, got a tensor of shape \(64,\)"):
        ts.preflight(mlp(), batch(), nn.CrossEntropyLoss(reduction="none"))


def test_skip_is_public():
    assert issubclass(Skip, Exception)


@pytest.mark.slow
def test_models_of_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(50, (16, 12))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    report = ts.preflight(
        model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}, None, optimizer
    )
    assert report.ok, report
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=3
    )
    model = transformers.BertForSequenceClassification(config)
    report = ts.preflight(model, {"input_ids": ids, "labels": torch.arange(16) % 3}, None)
    assert report.ok, report
