"""The evaluator against PyTorch itself, and its ablations against networks whose attention is truly taken out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ulsam_deploy.graph import Evaluator, Program, batches, capture, fuse_attention, lower

from .spellings import Block, C, randomise

H = W = 6


def network() -> nn.Sequential:
    layers = [nn.Conv2d(3, C, 1), Block(2), nn.Conv2d(C, C, 3, padding=1), nn.ReLU(), Block(3), nn.Conv2d(C, 4, 1)]
    model = nn.Sequential(*layers)
    randomise(model)
    return model


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return network()


@pytest.fixture(scope="module")
def fused(model: nn.Sequential) -> Program:
    program = fuse_attention(capture(model, [(3, H, W)], batch=2))
    assert [block.path for block in program.blocks] == ["1", "4"]
    return program


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(2, 3, H, W, generator=torch.Generator().manual_seed(3))


def exact(model: nn.Sequential, image: Tensor, without: int | None = None) -> Tensor:
    ablation = copy.deepcopy(model).double()
    if without is not None:
        ablation[without] = nn.Identity()
    with torch.no_grad():
        return ablation(image.double())


def test_float64_is_the_network_in_double(model: nn.Sequential, fused: Program, image: Tensor) -> None:
    torch.testing.assert_close(Evaluator(fused).run([image])["output"], exact(model, image), rtol=1e-12, atol=1e-12)


def test_float32_is_the_network_as_it_is(model: nn.Sequential, fused: Program, image: Tensor) -> None:
    given = Evaluator(fused, torch.float32).run([image])["output"]
    assert given.dtype is torch.float32
    torch.testing.assert_close(given, model(image), rtol=1e-4, atol=1e-3)
    assert not torch.equal(given.double(), exact(model, image))  # the two precisions do differ


def test_ablations_are_networks_without_that_attention(model: nn.Sequential, fused: Program, image: Tensor) -> None:
    reference, ablations = Evaluator(fused).ablations([image])
    torch.testing.assert_close(reference["output"], exact(model, image), rtol=1e-12, atol=1e-12)
    assert len(ablations) == 2
    for ablation, block in zip(ablations, (1, 4), strict=True):
        expected = exact(model, image, without=block)
        assert (expected - reference["output"]).abs().max() > 1e-2  # the attention matters here
        torch.testing.assert_close(ablation["output"], expected, rtol=1e-12, atol=1e-12)


def test_shared_prefixes_give_what_whole_runs_give(fused: Program, image: Tensor) -> None:
    evaluator = Evaluator(fused)
    reference, ablations = evaluator.ablations([image])
    assert torch.equal(reference["output"], evaluator.run([image])["output"])
    again, _ = evaluator.ablations([image])
    assert torch.equal(reference["output"], again["output"])  # an ablation spoils nothing for the next run
    without_all = Evaluator(lower(fused, lambda x, *_: x.clone())).run([image])["output"]
    assert not torch.allclose(without_all, ablations[0]["output"])


def test_maps_are_the_networks_own_and_sum_to_one(model: nn.Sequential, fused: Program, image: Tensor) -> None:
    first, second = Evaluator(fused).maps([image])
    assert first.shape == (2, 2, H, W)
    assert second.shape == (2, 3, H, W)
    torch.testing.assert_close(second.sum((2, 3)), torch.ones(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    block: Block = copy.deepcopy(model[1]).double()  # type: ignore[assignment]
    x = copy.deepcopy(model[0]).double()(image.double())
    own = torch.cat([branch.attention(part) for branch, part in zip(block.branches, block.parts(x))], 1)
    torch.testing.assert_close(first, own.detach(), rtol=1e-12, atol=1e-12)


def test_a_tensor_made_from_nothing_takes_part_in_float64() -> None:
    class Filled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.empty(1, 2, 3, 3)
            y[:, :1], y[:, 1:] = x, 1 / 3 * x
            return y

    x = torch.full((1, 1, 3, 3), 1.0)
    y = Evaluator(capture(Filled(), [(1, 3, 3)])).run([x])["output"]
    assert y[0, 1, 0, 0].item() == 1 / 3


def test_batches_cut_every_input_alike() -> None:
    inputs = {"a": torch.arange(5), "b": 10 + torch.arange(5)}
    assert [[t.tolist() for t in batch] for batch in batches(inputs, 2)] == [
        [[0, 1], [10, 11]],
        [[2, 3], [12, 13]],
        [[4], [14]],
    ]
