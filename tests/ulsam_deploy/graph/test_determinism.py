"""A network that draws numbers is refused by the name of what draws them; one that only could is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.graph import capture, check_repeatable

SHAPE = (3, 16, 16)


class Body(nn.Module):
    """A small network; ``middle`` is applied to its features."""

    def __init__(self, middle: Callable[[Tensor], Tensor], module: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.head, self.middle = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5), middle
        self.extra = module

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(torch.relu(self.stem(x))).mean((2, 3)))


def check(model: nn.Module, again: Callable[[], nn.Module] | None = None, batch: int | None = 1) -> None:
    model.eval()
    check_repeatable(model, capture(model, [SHAPE], batch), again)


@pytest.mark.parametrize(
    ("middle", "operator"),
    [
        (lambda y: y + 0.05 * torch.randn_like(y), "randn_like"),
        (lambda y: y + 1e-5 * torch.randn_like(y), "randn_like"),
        (lambda y: y * torch.rand(1), "rand"),
        (lambda y: F.dropout(y, 0.5), "dropout"),
        (lambda y: F.rrelu(y - 0.1, training=True), "rrelu"),
        (lambda y: y + torch.bernoulli(torch.full_like(y, 0.5)), "bernoulli"),
    ],
)
def test_an_operator_that_draws_is_named_with_its_line(middle: Callable[[Tensor], Tensor], operator: str) -> None:
    with pytest.raises(ExportError) as raised:
        check(Body(middle))
    assert operator in raised.value.found
    assert "test_determinism.py, line" in raised.value.found


def test_the_module_of_the_operator_is_named() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    with pytest.raises(ExportError, match="in module '1'"):
        check(nn.Sequential(nn.Conv2d(3, 4, 3), Noise()))


def test_dropout_is_told_what_switches_it_off() -> None:
    with pytest.raises(ExportError) as raised:
        check(Body(lambda y: F.dropout(y, 0.5)))
    assert "training=self.training" in str(raised.value)


@pytest.mark.parametrize(
    "middle",
    [
        lambda y: F.dropout(y, 0.5, training=False),
        lambda y: F.rrelu(y),
        lambda y: F.scaled_dot_product_attention(y, y, y),
        lambda y: y + 0 * torch.randn_like(y),
        lambda y: y.add_(1.0),
    ],
)
@pytest.mark.parametrize("batch", [1, None])
def test_what_draws_nothing_passes(middle: Callable[[Tensor], Tensor], batch: int | None) -> None:
    check(Body(middle), batch=batch)


def test_a_network_that_changes_its_input_passes() -> None:
    check(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3)))


def test_what_python_draws_is_found_by_a_second_run() -> None:
    with pytest.raises(ExportError, match="another result for the same input"):
        check(Body(lambda y: y * (1 + random.random())))


class Fourier(nn.Module):
    """Has random constants that no checkpoint holds; ``place`` says where."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        drawn = torch.randn(4)
        if place == "attribute":
            self.constant = drawn
        elif place == "buffer":
            self.register_buffer("constant", drawn, persistent=False)
        elif place == "list":
            self.constants = [torch.ones(4), drawn]
        elif place == "number":
            self.factor = float(drawn[0])
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        constants = {
            "attribute": lambda: self.constant, "buffer": lambda: self.constant, "list": lambda: self.constants[1],
            "number": lambda: torch.full((4,), self.factor), "none": lambda: torch.ones(4),
        }  # fmt: skip
        return (self.stem(x) * constants[self.place]().view(1, 4, 1, 1)).mean((2, 3))


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("attribute", "'constant' (4)"),
        ("buffer", "'constant' (4)"),
        ("list", "'constants[1]' (4)"),
        ("number", "'factor'"),
    ],
)
def test_a_constant_that_is_in_no_checkpoint_is_named(place: str, name: str) -> None:
    model = Fourier(place)

    def again() -> nn.Module:
        other = Fourier(place)
        other.load_state_dict(model.state_dict())
        return other.eval()

    with pytest.raises(ExportError) as raised:
        check(model, again)
    assert name in raised.value.found


def test_a_factory_that_builds_the_same_passes() -> None:
    model = Fourier("none")

    def again() -> nn.Module:
        other = Fourier("none")
        other.load_state_dict(model.state_dict())
        return other.eval()

    check(model, again)


def test_the_command_refuses_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fourier_net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.B, self.a = torch.randn(3), nn.Conv2d(3, 4, 3)\n"
        "    def forward(self, x):\n"
        "        return self.a(x * self.B.view(1, 3, 1, 1)).mean((2, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.save(nn.ModuleDict({"a": nn.Conv2d(3, 4, 3)}).state_dict(), "net.pt")
    words = ["export", "net.pt", "--model", "fourier_net:Net", "--input", "3x16x16", "--target", "onnx", "-o", "b"]
    assert main(words) == 3
    assert "'B' (3) is drawn anew" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
