"""The watch over attention: what it counts, when it speaks, and that it leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.models.training import AttentionWatch, Peaks
from ulsam_deploy.models.ulsam import SOFTMAX_OVER_CHANNEL, ULSAM, SubSpace


def network(steep: float = 0.0, channels: int = 8, variant: str = "reference") -> nn.Sequential:
    """A convolution and one block ``1`` of two subspaces; ``steep`` is how much high scores stand out (0: uniform)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, channels, 1), ULSAM(channels, 2, variant)).eval()
    set_steepness(model, steep)
    return model


def set_steepness(model: nn.Module, steep: float) -> None:
    for module in model.modules():
        if isinstance(module, SubSpace):
            module.bn_point.weight.data.fill_(steep)
            module.bn_point.bias.data.fill_(2 * steep)  # or the ReLU before the softmax may leave nothing


def images(side: int, seed: int = 0, count: int = 3) -> torch.Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def test_peaks_are_those_of_every_map_that_ran() -> None:
    model = network(steep=5.0)
    maps: list[torch.Tensor] = []
    with AttentionWatch(model) as watch, torch.no_grad():
        for subspace in model[1].subspaces:
            subspace.softmax.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
        model(images(6, seed=1))
        model(images(6, seed=2, count=1))
        (found,) = watch.peaks()
    expected = torch.cat([attention.amax(-1).flatten() for attention in maps])
    assert len(expected) == 2 * (3 + 1)
    assert (found.path, found.positions) == ("1", 36)
    assert found.mean == pytest.approx(float(expected.mean()), rel=1e-6)
    assert found.maximum == pytest.approx(float(expected.max()), rel=1e-6)
    assert found.mean > 1.2 / 36, "the maps should not be uniform here"


@pytest.mark.parametrize(
    ("mean", "maximum", "lost"),
    [
        (0.01, 0.02, {}),
        (1 / 512, 1 / 512, {}),
        (1 / 513, 1 / 500, {"int8": "most"}),
        (1 / 520, 1 / 513, {"int8": "all"}),
        (2**-11, 2**-11, {"int8": "all"}),
        (2**-12, 2**-10.5, {"int8": "all", "fp16": "most"}),
        (2**-12, 1 / 400, {"int8": "most", "fp16": "most"}),
        (2**-13, 2**-12, {"int8": "all", "fp16": "all"}),
    ],
)
def test_what_each_precision_loses(mean: float, maximum: float, lost: dict[str, str]) -> None:
    peaks = Peaks("features.3", 100, mean, maximum)
    assert peaks.lost == lost
    assert str(peaks).startswith("features.3: attention peaks at ")
    assert "\n" not in str(peaks)
    for name, share in lost.items():
        assert f"{name} loses {share} of it" in str(peaks)
    assert ("survives" in str(peaks)) is not bool(lost)


@pytest.mark.parametrize(("side", "lost"), [(6, []), (24, ["int8"]), (48, ["int8", "fp16"])])
def test_uniform_attention_is_lost_where_the_map_is_large(side: int, lost: list[str]) -> None:
    """1/36 is above both limits, 1/576 under 1/512 alone, 1/2304 under 2^-11 as well."""
    said: list[str] = []
    with AttentionWatch(network(), every=1, say=said.append) as watch, torch.no_grad():
        watch._model(images(side))
    assert len(said) == bool(lost)
    assert [name for name in ("int8", "fp16") if said and f"{name} loses all" in said[0]] == lost


def test_it_speaks_when_something_changes_and_only_then() -> None:
    model, said = network(), []
    with AttentionWatch(model, every=2, say=said.append) as watch, torch.no_grad():
        model(images(24))
        assert (said, len(watch.peaks())) == ([], 1)
        model(images(24))
        assert watch.peaks() == [], "each judgement starts anew"
        for _ in range(4):
            model(images(24))
        assert len(said) == 1
        assert "int8 loses all of it (under 1/512)" in said[0]
        assert "fp16" not in said[0]
        set_steepness(model, 8.0)
        for _ in range(4):
            model(images(24))
    assert len(said) == 2
    assert "survives int8 and fp16" in said[1]


def test_it_watches_training_and_changes_nothing() -> None:
    def step(watched: bool) -> dict[str, torch.Tensor]:
        model = network(steep=1.0).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with AttentionWatch(model, every=1, say=str) if watched else torch.enable_grad():
            for seed in range(3):
                model(images(8, seed)).square().mean().backward()
                optimizer.step()
        return model.state_dict()

    plain, watched = step(False), step(True)
    assert all(torch.equal(plain[key], watched[key]) for key in plain)


def test_nothing_is_left_on_the_model_even_after_an_error() -> None:
    model = network()
    watch = AttentionWatch(model)
    assert not hooks(model), "nothing before it is entered"
    with pytest.raises(RuntimeError, match="3 hooks"), watch:
        raise RuntimeError(f"{len(hooks(model))} hooks")
    assert not hooks(model)
    model(images(4))
    assert watch.peaks() == []


def hooks(model: nn.Module) -> list[object]:
    return [hook for module in model.modules() for hook in module._forward_hooks.values()]


def test_blocks_come_in_the_order_in_which_they_ran() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = ULSAM(4, 1), ULSAM(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    with AttentionWatch(Backwards().eval(), every=None) as watch, torch.no_grad():
        watch._model(torch.rand(1, 4, 5, 5))
        assert [peaks.path for peaks in watch.peaks()] == ["first", "second"]


def test_attention_that_is_1_everywhere_is_not_called_diffuse() -> None:
    with AttentionWatch(network(variant=SOFTMAX_OVER_CHANNEL), every=None) as watch, torch.no_grad():
        watch._model(images(24))
        assert watch.peaks()[0].lost == {}


def test_refuses_a_network_without_blocks_and_a_senseless_interval() -> None:
    with pytest.raises(UsageError, match="no ULSAM block"):
        AttentionWatch(nn.Conv2d(1, 1, 1))
    with pytest.raises(UsageError, match="every 0 batches"):
        AttentionWatch(network(), every=0)


def test_says_it_on_stderr_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    with AttentionWatch(network(), every=1) as watch, torch.no_grad():
        watch._model(images(24))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("1: attention peaks at 0.0017 on average and 0.0017 at most; int8 loses all of it")
