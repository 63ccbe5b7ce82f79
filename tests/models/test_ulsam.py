"""ULSAM's maths against an implementation in numpy float64 that shares no code and no form with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.models.ulsam import POOL_OF_INPUT, REFERENCE, SOFTMAX_OVER_CHANNEL, ULSAM, VARIANTS, variant_warning


def randomized(channels: int, subspaces: int, variant: str, seed: int = 0) -> ULSAM:
    """A block in eval mode whose every parameter and statistic is random, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    block = ULSAM(channels, subspaces, variant).double().eval()
    for key, value in block.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else drawn)
    return block


def by_hand(x: np.ndarray, weights: dict[str, np.ndarray], subspaces: int, variant: str) -> np.ndarray:
    """Pixel by pixel, one number at a time where it matters."""
    batch, channels, height, width = x.shape
    size = channels // subspaces
    out = np.zeros_like(x)
    for n in range(batch):
        for k in range(subspaces):
            w = {key.split(".", 2)[2]: v for key, v in weights.items() if key.startswith(f"subspaces.{k}.")}
            part = x[n, k * size : (k + 1) * size]
            score = np.full((height, width), w["conv_point.bias"][0])
            for c in range(size):
                gate = part[c] * w["conv_dws.weight"][c, 0, 0, 0] + w["conv_dws.bias"][c]
                gate = (gate - w["bn_dws.running_mean"][c]) / np.sqrt(w["bn_dws.running_var"][c] + 1e-5)
                gate = np.maximum(gate * w["bn_dws.weight"][c] + w["bn_dws.bias"][c], 0)
                source = part[c] if variant == POOL_OF_INPUT else gate
                for i in range(height):
                    for j in range(width):
                        window = source[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
                        score[i, j] += w["conv_point.weight"][0, c, 0, 0] * window.max()
            score = (score - w["bn_point.running_mean"][0]) / np.sqrt(w["bn_point.running_var"][0] + 1e-5)
            score = np.maximum(score * w["bn_point.weight"][0] + w["bn_point.bias"][0], 0)
            attention = np.exp(score - score.max())
            attention = np.ones_like(score) if variant == SOFTMAX_OVER_CHANNEL else attention / attention.sum()
            out[n, k * size : (k + 1) * size] = part + attention * part
    return out


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("channels", "subspaces", "size"), [(8, 1, (5, 7)), (12, 4, (6, 6)), (4, 4, (1, 1)), (6, 3, (2, 9))]
)
def test_equals_the_maths_written_by_hand(variant: str, channels: int, subspaces: int, size: tuple[int, int]) -> None:
    block = randomized(channels, subspaces, variant)
    x = torch.randn(2, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = {key: value.numpy() for key, value in block.state_dict().items()}
    with torch.no_grad():
        np.testing.assert_allclose(block(x).numpy(), by_hand(x.numpy(), weights, subspaces, variant), rtol=1e-12)


def test_variants_are_different_functions_of_the_same_weights() -> None:
    x = torch.randn(1, 8, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    outputs = {variant: randomized(8, 2, variant)(x) for variant in VARIANTS}
    assert not torch.allclose(outputs[REFERENCE], outputs[POOL_OF_INPUT])
    torch.testing.assert_close(outputs[SOFTMAX_OVER_CHANNEL], 2 * x)


def test_keys_and_counts_are_the_public_code_s() -> None:
    block = ULSAM(512, 4)
    names = {
        f"subspaces.{k}.{layer}.{leaf}"
        for k in range(4)
        for layer, leaves in {
            "conv_dws": ("weight", "bias"),
            "bn_dws": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
            "conv_point": ("weight", "bias"),
            "bn_point": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
        }.items()
        for leaf in leaves
    }
    assert set(block.state_dict()) == names
    assert block.state_dict()["subspaces.0.conv_dws.weight"].shape == (128, 1, 1, 1)
    assert block.state_dict()["subspaces.0.conv_point.weight"].shape == (1, 128, 1, 1)
    assert sum(p.numel() for p in block.parameters()) == 5 * 512 + 3 * 4 == 2572
    assert {m.momentum for m in block.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.9}


@pytest.mark.parametrize(("channels", "subspaces"), [(24, 16), (8, 0), (8, -2), (8, 9)])
def test_refuses_subspaces_that_do_not_divide(channels: int, subspaces: int) -> None:
    with pytest.raises(UsageError, match=rf"{subspaces} subspaces do not divide {channels} channels") as caught:
        ULSAM(channels, subspaces)
    assert caught.value.expected == f"a divisor of {channels}, such as 1, 2, 4, 8"


def test_refuses_an_unknown_variant() -> None:
    with pytest.raises(UsageError, match="'diagonal'") as caught:
        ULSAM(8, 2, "diagonal")
    assert POOL_OF_INPUT in caught.value.expected


@pytest.mark.parametrize(("variant", "warns"), [(REFERENCE, False), (POOL_OF_INPUT, True)])
def test_training_leaves_the_fingerprint_only_where_the_gate_is_dead(variant: str, warns: bool) -> None:
    torch.manual_seed(0)
    block = ULSAM(8, 2, variant)
    assert variant_warning(block.state_dict()), "an untrained block cannot be told apart"
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    target = torch.randn(4, 8, 6, 6)
    (block(torch.randn(4, 8, 6, 6)) - target).square().mean().backward()
    optimizer.step()
    assert block.subspaces[0].conv_point.weight.grad.abs().max() > 0
    assert bool(variant_warning(block.state_dict())) is warns


def test_no_warning_without_attention() -> None:
    assert variant_warning({"bn.weight": torch.ones(3), "bn.bias": torch.zeros(3)}) is None
