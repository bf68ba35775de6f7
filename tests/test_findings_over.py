"""Findings stay true: what stops says so and fails nothing, what was meant is no finding, sizes have no units."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import tensorstats as ts  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.a, self.b = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Any, head: str) -> Any:
        return getattr(self, head)(self.trunk(x).relu())


def test_a_head_that_joins_later_is_over_and_fails_nothing() -> None:
    torch.manual_seed(0)
    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    during = []
    with ts.watch(model, optimizer) as monitor:
        for step in range(60):
            optimizer.zero_grad()
            model(torch.randn(16, 8), "ab"[step >= 10 and step % 2]).square().mean().backward()
            optimizer.step()
            if step == 8:
                during = monitor.findings
    assert [(f.rule, f.where, f.status, f.over) for f in during] == [("no-gradient", "b", "failure", False)]
    (finding,) = monitor.findings
    assert (finding.status, finding.step, finding.last_step, finding.over) == ("warning", 0, 10, True)
    assert "no-gradient at b, steps 0 to 10, over" in str(finding)
    assert "never" not in finding.why


def test_what_goes_on_is_not_over() -> None:
    torch.manual_seed(0)
    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(30):
            optimizer.zero_grad()
            model(torch.randn(16, 8), "a").square().mean().backward()
            optimizer.step()
    (finding,) = monitor.findings
    assert (finding.status, finding.last_step, finding.over) == ("failure", 29, False)


def test_a_gan_that_freezes_its_critic_half_of_the_time_is_not_frozen() -> None:
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 4), nn.Linear(4, 1)
    first, second = torch.optim.Adam(generator.parameters()), torch.optim.Adam(critic.parameters())
    with ts.watch([generator, critic], [first, second], on_finding="raise") as monitor:
        for _ in range(10):
            critic.requires_grad_(True)
            second.zero_grad()
            fake = generator(torch.randn(8, 4)).detach()
            (critic(fake) - critic(torch.randn(8, 4)).square()).mean().backward()
            second.step()
            critic.requires_grad_(False)
            first.zero_grad()
            (-critic(generator(torch.randn(8, 4)))).mean().backward()
            first.step()
    assert monitor.findings == []


def test_a_target_network_that_is_copied_to_is_at_most_a_warning_that_is_over() -> None:
    torch.manual_seed(0)
    online, target = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizer = torch.optim.Adam(online.parameters())
    with ts.watch({"online": online, "target": target}, optimizer) as monitor:
        for step in range(40):
            if step % 10 == 9:
                target.load_state_dict(online.state_dict())
            with torch.no_grad():
                goal = target(torch.randn(8, 4))
            optimizer.zero_grad()
            (online(torch.randn(8, 4)) - goal).square().mean().backward()
            optimizer.step()
    assert [f.status for f in monitor.findings if not f.over] == []
    assert all(f.status == "warning" for f in monitor.findings)


def test_a_search_without_gradients_is_not_told_that_it_has_none() -> None:
    model = nn.Linear(4, 2)
    with ts.watch(model) as monitor:
        for _ in range(20):
            with torch.no_grad():
                model(torch.randn(8, 4))
                model.weight.add_(0.01 * torch.randn(2, 4))
    assert [f.rule for f in monitor.findings] == []


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_mask_of_minus_infinity_is_no_finding(backend: Any) -> None:
    class Net(nn.Module):
        def __init__(this) -> None:  # noqa: N805  # names of arguments are counted by place, whatever the first is called
            super().__init__()
            this.e = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(this, x: Any, mask: Any) -> Any:  # noqa: N805
            return this.e(x.nan_to_num(), src_mask=mask)

    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    x = torch.randn(4, 7, 16)
    x[0, 0, 0] = torch.nan  # a missing value that the model fills in
    with ts.watch(model, optimizer, backend=backend) as monitor:
        for number in range(3):
            if number == 2:
                assert monitor.findings == []
                mask = torch.full_like(mask, torch.inf)
            optimizer.zero_grad()
            model(x, mask).square().mean().backward()
            optimizer.step()
    finding = monitor.findings[0]
    assert (finding.rule, finding.step) == ("non-finite", 2)
    assert finding.where in ("input x", "input mask")  # both hold what is not finite when something shows it


def test_a_mask_of_minus_infinity_is_not_blamed_for_a_weight_that_is_nan() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.o = nn.Linear(16, 4)

        def forward(self, x: Any, mask: Any) -> Any:
            return self.o(self.e(x, src_mask=mask))

    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    with ts.watch(model, optimizer) as monitor:
        for step in range(3):
            if step == 2:
                model.e.linear1.weight.data[0, 0] = float("nan")
            optimizer.zero_grad()
            model(torch.randn(4, 7, 16), mask).square().mean().backward()
            optimizer.step()
    finding = monitor.findings[0]
    assert finding.where == "e.linear1"
    assert "its own weight already holds one" in finding.why


def test_data_of_minus_infinity_is_blamed_and_never_called_finite() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.ones(3, 4)
    x[1, 2] = -torch.inf
    with ts.watch(model, optimizer) as monitor:
        model(x).square().mean().backward()
        optimizer.step()
    finding = monitor.findings[0]
    assert (finding.where, finding.value) == ("input", 1)
    assert "index [1, 2] (-inf)" in finding.why


def test_logits_masked_on_purpose_do_not_cut_a_step_in_two() -> None:
    class Masked(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.masked_fill(torch.eye(4, dtype=torch.bool)[: len(x)], -torch.inf)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Masked(), nn.Softmax(1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            for _ in range(4):  # accumulation
                model(torch.randn(3, 4)).square().mean().backward()
            optimizer.step()
    assert monitor.step == 3


# --- sizes have no units ----------------------------------------------------------------------------------------------


class Tokens(nn.Module):
    """With a class token born with a spread of 1e-6, as vision transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 32) * 1e-6)
        self.project = nn.Linear(8, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(torch.cat([self.token.expand(len(x), -1, -1), self.project(x)], 1))[:, 0])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("rate", [1e-3, 3e-5])
def test_a_parameter_born_tiny_may_grow_whatever_the_scale_of_the_loss(scale: float, rate: float, digits: Any) -> None:
    x, y = digits
    torch.manual_seed(0)
    model = Tokens()
    optimizer = torch.optim.AdamW(model.parameters(), rate, eps=1e-15)
    with ts.watch(model, optimizer, every=2) as monitor:
        for _ in range(80):
            i = torch.randint(0, len(x), (64,))
            loss = scale * nn.functional.cross_entropy(model(x[i].view(-1, 8, 8)), y[i])
            optimizer.zero_grad()
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
    assert [(f.rule, f.where) for f in monitor.findings] == []


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_raw_targets_and_scaled_losses_are_healthy_under_adam(scale: float) -> None:
    data = pytest.importorskip("sklearn.datasets").load_diabetes()
    x = torch.tensor(data.data / data.data.std(0), dtype=torch.float32)
    y = torch.tensor(data.target, dtype=torch.float32)[:, None]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, eps=1e-15)
    with ts.watch(model, optimizer) as monitor:
        for _ in range(100):
            loss = scale * nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            monitor.log_loss(loss)
            optimizer.step()
    assert [(f.rule, f.where) for f in monitor.findings] == []


def test_a_wild_rate_is_found_whatever_the_scale_of_the_loss(digits: Any) -> None:
    x, y = digits
    found = []
    for scale in (1e-4, 1.0, 1e4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(model.parameters(), 10.0, eps=1e-15)
        with ts.watch(model, optimizer) as monitor:
            for _ in range(30):
                i = torch.randint(0, len(x), (64,))
                optimizer.zero_grad()
                (scale * nn.functional.cross_entropy(model(x[i]), y[i])).backward()
                optimizer.step()
        found.append([(f.rule, f.where, f.step) for f in monitor.findings])
        finding = next(f for f in monitor.findings if f.rule == "update-ratio")
        steps, ratios = monitor.series("updates", finding.where + ".weight", "update_ratio")
        assert finding.value == ratios[list(steps).index(finding.step)]
    assert found[0] == found[1] == found[2]
    assert ("update-ratio", "2", 0) in found[0] or ("update-ratio", "0", 0) in found[0]
