"""Building MobileNetV1 and V2 with ULSAM, and reading the configuration back from keys and shapes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.models.backbone import Config, make_divisible
from ulsam_deploy.models.mobilenet_v1 import NETWORK as V1
from ulsam_deploy.models.mobilenet_v2 import NETWORK as V2
from ulsam_deploy.models.ulsam import ULSAM, VARIANTS

FAMILIES = {"mobilenet_v1": V1, "mobilenet_v2": V2}
QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def meta(family: Any, config: dict[str, Any]) -> torch.nn.Module:
    with torch.device("meta"):
        return family.build(config)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from(sorted(FAMILIES)))
    family = FAMILIES[name]
    insert = draw(st.lists(st.sampled_from(list(family.positions)), max_size=4, unique=True))
    substitute = draw(st.lists(st.sampled_from(family.substitutable), max_size=4, unique=True))
    return name, {
        "width": draw(st.sampled_from([0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, 2.0])),
        "classes": draw(st.integers(1, 2000)),
        "in_channels": draw(st.integers(1, 12)),
        "insert": sorted(insert),
        "substitute": sorted(substitute),
        "subspaces": draw(st.sampled_from([1, 2, 4, 8])) if insert or substitute else 4,
        "variant": "reference",
    }


@QUICK
@given(configurations())
def test_recognize_gives_back_the_configuration(drawn: tuple[str, dict[str, Any]]) -> None:
    name, config = drawn
    found = shapes(meta(FAMILIES[name], config))
    assert FAMILIES[name].recognize(found) == config == json.loads(json.dumps(config))
    for other, family in FAMILIES.items():
        assert other == name or family.recognize(found) is None


@pytest.mark.parametrize("name", FAMILIES)
@QUICK
@example(width=1.375)  # told apart from 1.4 by the last convolution alone
@given(width=st.floats(0.01, 3.0))
def test_any_width_comes_back_as_one_that_builds_the_same(name: str, width: float) -> None:
    family = FAMILIES[name]
    found = shapes(meta(family, {"width": width, "classes": 7}))
    config = family.recognize(found)
    assert config is not None
    assert shapes(meta(family, config)) == found


def test_counters_of_old_checkpoints_may_be_missing() -> None:
    found = shapes(meta(V2, {"insert": [14]}))
    kept = {key: shape for key, shape in found.items() if not key.endswith("num_batches_tracked")}
    assert V2.recognize(kept) == V2.recognize(found) is not None


WHOLE = {name: shapes(meta(family, {"insert": [3, 9], "substitute": [13]})) for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", FAMILIES)
@QUICK
@given(data=st.data())
def test_never_guesses(name: str, data: st.DataObject) -> None:
    """One key dropped, renamed, added or misshaped: not this network, and never an exception."""
    found = dict(WHOLE[name])
    key = data.draw(st.sampled_from(sorted(key for key in found if not key.endswith("num_batches_tracked"))))
    what = data.draw(st.sampled_from(["drop", "rename", "add", "reshape"]))
    shape = found[key] if what == "add" else found.pop(key)
    if what in ("rename", "add"):
        found[data.draw(st.sampled_from(["attention.99.subspaces.0.bn_dws.bias", "features.3.subspaces.0.x", "x"]))] = (
            shape
        )
    if what == "reshape":
        found[key] = data.draw(
            st.sampled_from([(), (0,), (*shape, 1), tuple(size + 1 for size in shape), (10**9,) * 4])
        )
    assert FAMILIES[name].recognize(found) is None


def test_absurd_sizes_and_positions_are_not_recognized() -> None:
    classes = 10**17
    assert V2.recognize({**WHOLE["mobilenet_v2"], "classifier.1.weight": (classes, 1280)}) is None
    assert V2.recognize({**WHOLE["mobilenet_v2"], f"attention.{'9' * 5000}.subspaces.0.bn_dws.weight": (1,)}) is None


def test_foreign_keys_are_not_recognized() -> None:
    for found in ({}, {"fc.weight": (10, 5)}, {"features.0.0.weight": (8, 3, 3, 3)}):
        assert V1.recognize(found) is None
        assert V2.recognize(found) is None


def test_blocks_with_different_subspaces_are_not_taken_for_one_number() -> None:
    mixed = {**shapes(meta(V2, {"insert": [14], "subspaces": 4}))}
    mixed.update({k: v for k, v in shapes(meta(V2, {"insert": [10], "subspaces": 2})).items() if "attention.10" in k})
    assert V2.recognize(mixed) is None


def torchvision_keys() -> dict[str, tuple[int, ...]]:
    """torchvision 0.2x ``mobilenet_v2().state_dict()``, written down here from its documented structure."""
    found: dict[str, tuple[int, ...]] = {}

    def conv_bn(conv: str, bn: str, outputs: int, inputs: int, kernel: int) -> None:
        found[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
        found.update({f"{bn}.{leaf}": (outputs,) for leaf in ("weight", "bias", "running_mean", "running_var")})
        found[f"{bn}.num_batches_tracked"] = ()

    conv_bn("features.0.0", "features.0.1", 32, 3, 3)
    inputs, at = 32, 1
    for expand, outputs, repeats in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(repeats):
            block, hidden = f"features.{at}.conv", inputs * expand
            if expand == 1:
                conv_bn(f"{block}.0.0", f"{block}.0.1", hidden, 1, 3)
                conv_bn(f"{block}.1", f"{block}.2", outputs, hidden, 1)
            else:
                conv_bn(f"{block}.0.0", f"{block}.0.1", hidden, inputs, 1)
                conv_bn(f"{block}.1.0", f"{block}.1.1", hidden, 1, 3)
                conv_bn(f"{block}.2", f"{block}.3", outputs, hidden, 1)
            inputs, at = outputs, at + 1
    conv_bn("features.18.0", "features.18.1", 1280, 320, 1)
    return {**found, "classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


def test_v2_has_torchvision_s_keys() -> None:
    assert shapes(meta(V2, {})) == torchvision_keys()
    assert len(torchvision_keys()) == 314


def test_ulsam_s_keys_leave_the_backbone_s_alone() -> None:
    plain, inserted = shapes(meta(V2, {})), shapes(meta(V2, {"insert": [14]}))
    assert {key for key in inserted if key not in plain} == {
        key for key in inserted if key.startswith("attention.14.sub")
    }
    assert plain.items() <= inserted.items()
    substituted = shapes(meta(V2, {"substitute": [15]}))
    changed = {key for key in substituted.keys() ^ plain.keys() if key.startswith("features.15.")}
    assert changed == substituted.keys() ^ plain.keys()


def test_an_inserted_block_attends_after_its_layer_and_a_substitute_stands_in_for_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    for family in FAMILIES.values():
        model = family.build({"insert": [3], "substitute": [13], "classes": 5, "width": 0.25})
        seen: list[tuple[str, tuple[int, ...]]] = []
        for name, module in model.named_modules():
            if name.count(".") == 1:
                module.register_forward_hook(
                    lambda _m, _i, out, name=name, seen=seen: seen.append((name, tuple(out.shape)))
                )
        with torch.no_grad():
            assert model(x).shape == (2, 5)
        order = [name for name, _ in seen]
        at = order.index("features.3")
        assert order[at + 1 : at + 3] == ["attention.3", "features.4"]
        assert seen[at][1] == seen[at + 1][1]
        assert isinstance(model.features[13], ULSAM)


def test_v2_adds_its_input_only_where_torchvision_does() -> None:
    residual = [at for at, layer in enumerate(V2.build({}).features) if getattr(layer, "residual", False)]
    assert residual == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16] == list(V2.substitutable)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_reaches_every_block(variant: str) -> None:
    model = V2.build({"insert": [3, 14], "substitute": [16], "variant": variant})
    assert [module.variant for module in model.modules() if isinstance(module, ULSAM)] == [variant] * 3


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_trains(family: Any) -> None:
    torch.manual_seed(0)
    model = family.build({"insert": [6], "substitute": [13], "classes": 3, "in_channels": 1, "width": 0.25})
    assert not model.training
    model.train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(model(torch.randn(4, 1, 64, 64)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    changed = {name for name, _ in model.named_parameters() if not torch.equal(before[name], model.state_dict()[name])}
    assert {name for name in before if name in dict(model.named_parameters()) and ".subspaces." not in name} <= changed
    assert {name.split(".subspaces.")[0] for name in changed if ".subspaces." in name} == {"attention.6", "features.13"}


@pytest.mark.parametrize(
    ("config", "found", "expected"),
    [
        ({"substitute": [14]}, "cannot substitute ULSAM for layer 14", "3, 5, 6, 8, 9, 10, 12, 13, 15, 16"),
        ({"insert": [0]}, "cannot insert ULSAM after layer 0", "1, 2, 3"),
        ({"insert": [18]}, "layer 18 of mobilenet_v2", "16, 17"),
        ({"insert": [2], "subspaces": 16}, "16 subspaces do not divide 24 channels", "1, 2, 4, 8"),
        ({"insert": [3], "variant": "x"}, "unknown ULSAM variant 'x'", "pool-of-input"),
        ({"widht": 1}, "unknown network option 'widht'", "width, classes"),
        ({"width": 0}, "width is 0", "above 0"),
        ({"width": float("nan")}, "width is nan", "above 0"),
        ({"classes": 0}, "classes is 0", "1 or more"),
        ({"classes": 2.5}, "wrong type", "numbers"),
        ({"insert": "12"}, "wrong type", "lists of numbers"),
        ({"insert": 12}, "wrong type", "lists of numbers"),
    ],
)
def test_says_what_is_wrong_with_a_configuration(config: dict[str, Any], found: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        V2.build(config)
    assert found in caught.value.found
    assert expected in caught.value.expected


def test_v1_names_the_positions_that_can_be_substituted() -> None:
    with pytest.raises(UsageError) as caught:
        V1.build({"substitute": [6]})
    assert caught.value.expected == "one of 3, 5, 7, 8, 9, 10, 11, 13"


def test_configuration_is_put_in_order() -> None:
    assert Config.read({"insert": [9, 3, 9]}).as_mapping()["insert"] == [3, 9]


def test_make_divisible_loses_no_more_than_a_tenth() -> None:
    assert [make_divisible(v) for v in (3.2, 8.8, 8.9, 11.2, 17.8, 24, 33.6, 1280)] == [8, 8, 16, 16, 24, 24, 32, 1280]


@pytest.mark.parametrize("name", FAMILIES)
def test_registered_as_plug_ins(name: str) -> None:
    network = plugins.load(plugins.MODELS, name)
    assert network is FAMILIES[name]
    assert network.name == name
    assert network.input_shape({"in_channels": 1}) == (1, 224, 224)
    for config in network.named().values():
        assert network.recognize(shapes(meta(network, config))) == config


def test_warns_of_weights_that_fit_a_dead_gate() -> None:
    (warning,) = V2.warnings(V2.build({"insert": [14]}).state_dict())
    assert "pool-of-input" in warning
    assert V2.warnings(V2.build({}).state_dict()) == ()
