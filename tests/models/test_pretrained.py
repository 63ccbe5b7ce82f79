"""Other people's weights: networks written here as others write them, moved into ours, must give the same logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.models.mobilenet_v1 import NETWORK as V1
from ulsam_deploy.models.mobilenet_v2 import NETWORK as V2
from ulsam_deploy.models.pretrained import adapt, load_backbone

V1_CHANNELS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
V1_STAGES = (1, 2, 2, 6, 2)


class FlatV1(nn.Module):
    """In the manner of marvis/pytorch-mobilenet."""

    def __init__(self, width: float) -> None:
        super().__init__()
        sizes = [int(32 * width), *(int(channels * width) for channels, _ in V1_CHANNELS)]

        def dw(i: int, stride: int) -> nn.Sequential:
            a, b = sizes[i : i + 2]
            first = (nn.Conv2d(a, a, 3, stride, 1, groups=a, bias=False), nn.BatchNorm2d(a), nn.ReLU())
            return nn.Sequential(*first, nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

        stem = nn.Sequential(nn.Conv2d(3, sizes[0], 3, 2, 1, bias=False), nn.BatchNorm2d(sizes[0]), nn.ReLU())
        layers = [dw(i, stride) for i, (_, stride) in enumerate(V1_CHANNELS)]
        self.model = nn.Sequential(stem, *layers, nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(sizes[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.model(x).flatten(1))


def staged(flat: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of osmr/pytorchcv."""
    units = [f"stage{s}.unit{u}" for s, size in enumerate(V1_STAGES, start=1) for u in range(1, size + 1)]
    parts = {"0": "dw_conv.conv", "1": "dw_conv.bn", "3": "pw_conv.conv", "4": "pw_conv.bn"}
    found = {}
    for key, value in flat.items():
        head, *rest = key.split(".")
        if head == "fc":
            found[f"output.{rest[0]}"] = value
        elif rest[0] == "0":
            found[f"features.init_block.{'conv' if rest[1] == '0' else 'bn'}.{rest[2]}"] = value
        else:
            found[f"features.{units[int(rest[0]) - 1]}.{parts[rest[1]]}.{rest[2]}"] = value
    return found


class FlatBottleneck(nn.Module):
    """In the manner of tonylins/pytorch-mobilenet-v2."""

    def __init__(self, a: int, b: int, stride: int, expand: int) -> None:
        super().__init__()
        h = a * expand
        first = [] if expand == 1 else [nn.Conv2d(a, h, 1, bias=False), nn.BatchNorm2d(h), nn.ReLU6()]
        middle = (nn.Conv2d(h, h, 3, stride, 1, groups=h, bias=False), nn.BatchNorm2d(h), nn.ReLU6())
        self.conv = nn.Sequential(*first, *middle, nn.Conv2d(h, b, 1, bias=False), nn.BatchNorm2d(b))
        self.same = stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.same else self.conv(x)


class FlatV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def cbr(a: int, b: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU6()
            )

        blocks, a = [cbr(3, 16, 3, 2)], 16
        for expand, b, repeats, stride in (
            (1, 8, 1, 1), (6, 16, 2, 2), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1)
        ):  # fmt: skip
            for i in range(repeats):
                blocks.append(FlatBottleneck(a, b, stride if i == 0 else 1, expand))
                a = b
        self.features = nn.Sequential(*blocks, cbr(160, 1280, 1, 1))
        self.classifier = nn.Linear(1280, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def shaken(model: nn.Module) -> nn.Module:
    """Random but tame weights and statistics in every tensor, so that a swapped pair shows."""
    generator = torch.Generator().manual_seed(0)
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        spread = torch.rand(value.shape, generator=generator)
        if value.ndim > 1:
            value.copy_((spread - 0.5) * (12.0 / value[0].numel()) ** 0.5)
        else:
            value.copy_(spread + 0.5 if key.endswith(("weight", "var")) else spread - 0.5)
    return model.eval()


def foreign(author: str) -> tuple[nn.Module, dict[str, Tensor], str, float]:
    """A network as others write it, its weights under their names, and which of ours it is."""
    theirs = shaken(FlatV1(0.25) if author in ("marvis", "pytorchcv") else FlatV2())
    weights = theirs.state_dict()
    if author == "pytorchcv":
        weights = staged(weights)
    if author == "d-li14":
        weights = {key.replace("features.18.", "conv."): value for key, value in weights.items()}
    return (theirs, weights, *(("mobilenet_v1", 0.25) if isinstance(theirs, FlatV1) else ("mobilenet_v2", 0.5)))


@pytest.mark.parametrize("author", ["marvis", "pytorchcv", "tonylins", "d-li14"])
def test_the_same_logits_under_our_keys(author: str) -> None:
    theirs, weights, network, width = foreign(author)
    adapted = adapt(weights)
    assert (adapted.network, adapted.config["width"], adapted.config["classes"]) == (network, width, 10)
    assert "renamed" in adapted.notes[0]
    ours = (V1 if network == "mobilenet_v1" else V2).build(adapted.config)
    ours.load_state_dict(adapted.state_dict)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_substituted_ulsam_keeps_its_place_in_a_foreign_layout() -> None:
    ours = V1.build({"substitute": [11], "width": 0.25})
    inside = {"dw.0": "0", "dw.1": "1", "pw.0": "3", "pw.1": "4"}
    flat: dict[str, Tensor] = {}
    for key, value in ours.state_dict().items():
        name = key.replace("classifier.1", "fc").replace("features.", "model.")
        for part, number in inside.items():
            name = name.replace(f".{part}.", f".{number}.")
        flat[name] = value
    adapted = adapt(flat)
    assert adapted.config == V1.recognize({k: tuple(v.shape) for k, v in ours.state_dict().items()})
    assert set(adapted.state_dict) == set(ours.state_dict())
    assert "bn_dws" in adapted.notes[-1]


def test_our_own_keys_need_no_renaming() -> None:
    for network in (V1, V2):
        weights = network.build({"insert": [8], "width": 0.25}).state_dict()
        assert network.rename(weights) == {}
        assert adapt(weights).state_dict.keys() == weights.keys()


def test_a_stranger_is_not_taken_in() -> None:
    with pytest.raises(UsageError, match="no network that is known") as caught:
        adapt({"layer1.0.conv1.weight": torch.zeros(3), "fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)})
    assert "mobilenet_v2" in caught.value.expected
    assert V1.rename(["fc.weight", "layer1.0.conv1.weight"]) == {}
    assert V1.rename([]) == {}


def test_plain_backbone_goes_into_a_network_with_ulsam() -> None:
    plain = shaken(V2.build({"width": 0.25}))
    model = V2.build({"width": 0.25, "insert": [14], "substitute": [16], "classes": 10})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = load_backbone(model, plain.state_dict())
    after = model.state_dict()
    assert set(report.new) == {k for k in before if ".subspaces." in k} | {"classifier.1.weight", "classifier.1.bias"}
    assert set(report.loaded) == set(before) - set(report.new)
    replaced = {key for key in plain.state_dict() if key.startswith("features.16.")}
    assert set(report.unused) == replaced | {"classifier.1.weight", "classifier.1.bias"}
    assert all(torch.equal(after[key], plain.state_dict()[key]) for key in report.loaded)
    assert all(torch.equal(after[key], before[key]) for key in report.new)
    assert "newly initialised: features.16.subspaces" in str(report)


def test_a_foreign_backbone_goes_in_too() -> None:
    flat = shaken(FlatV1(0.25))
    model = V1.build({"width": 0.25, "insert": [11], "classes": 10})
    report = load_backbone(model, flat.state_dict())
    assert report.unused == ()
    assert {key.split(".")[0] for key in report.new} == {"attention"}
    assert torch.equal(model.features[11].pw[0].weight, flat.model[11][3].weight)


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ({"features.0.0.weight": torch.zeros(16, 3, 3, 3)}, "'features.0.0.weight' has shape 16x3x3x3"),
        ({"module.features.0.0.weight": torch.zeros(8, 3, 3, 3)}, "none of these weights fits"),
        ({}, "none of these weights fits"),
    ],
)
def test_weights_that_do_not_fit_leave_the_model_alone(weights: dict[str, Tensor], found: str) -> None:
    model = V2.build({"width": 0.25, "insert": [14]})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load_backbone(model, weights)
    assert found in caught.value.found
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
