"""Every lowering means what the operator means, in float64, on sound and on adversarial inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ulsam_deploy.graph.operator  # noqa: F401  registers the operator
from ulsam_deploy.exporters import lowerings

CASES = {"normal": (1, 0), "huge logits": (300, 0), "all negative": (1, -50), "ties": (0, 1)}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(("channels", "subspaces"), [(8, 1), (8, 8), (12, 4), (32, 4)])
@pytest.mark.parametrize(
    "lowering", sorted({form for forms in lowerings.FORMS.values() for form in forms.values()}, key=str)
)
def test_lowering_equals_the_operator(lowering: Any, channels: int, subspaces: int, kind: Any) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scale, shift = CASES[kind]
    x = random(3, channels, 5, 7) * scale + shift
    weights = random(channels, 1, 1, 1), random(channels), random(subspaces, channels // subspaces, 1, 1)
    arguments = (x, *weights, random(subspaces), subspaces)
    expected = torch.ops.ulsam.subspace_attention(*arguments)
    found = lowering(*arguments)
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, x)  # attention took part
