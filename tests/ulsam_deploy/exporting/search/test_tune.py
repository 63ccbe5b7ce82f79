"""``--tune`` end to end on ONNX Runtime: it takes the fastest form that is right, and its recipe makes it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ulsam_deploy.cli import main
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.types import Block
from ulsam_deploy.exporters import lowerings
from ulsam_deploy.exporters.onnx.exporter import OnnxExporter

from .cases import artifact_bytes, manifest, write_small

pytestmark = pytest.mark.slow  # 'make test-search'


def slow(*arguments: Any) -> Tensor:
    """Equal to rounding, after two hundred transcendental functions of every value."""
    result = lowerings.broadcast(*arguments)
    detour = result
    for _ in range(200):
        detour = torch.atan(detour)
    return result + 1e-30 * detour


def wrong(*arguments: Any) -> Tensor:
    """As fast as can be: no attention at all."""
    x: Tensor = arguments[0]
    return x * 1.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    write_small(folder, [1], 32)
    return folder


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the exporter can choose among; the first is its own choice."""

    def choose(*known: Callable[..., Tensor]) -> None:
        monkeypatch.setitem(lowerings.FORMS, "onnx", {form.__name__: form for form in known})
        monkeypatch.setattr(OnnxExporter, "lowerings", tuple(form.__name__ for form in known))
        monkeypatch.setattr(lowerings, "_table", dict)

    return choose


def export(place: Path, output: str, *more: str) -> int:
    model = str(place / "model.pt")
    return main(["export", model, "--target", "onnx", "--no-cache", "-o", str(place / output), *more])


def test_it_takes_the_faster_form_and_never_a_wrong_one(
    place: Path, forms: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    forms(slow, wrong, lowerings.broadcast)
    assert export(place, "tuned.bundle", "--tune") == Exit.OK
    (record,) = manifest(place, "tuned.bundle").artifacts
    assert set(record.facts.lowerings.values()) == {"broadcast"}
    tried = {choice.lowering: choice for choice in record.facts.tuned}
    assert (tried["broadcast"].taken, tried["wrong"].taken) == (True, False)
    assert tried["wrong"].ratio is None
    assert tried["wrong"].why
    assert "taken" in capsys.readouterr().out

    # The recipe alone, without a clock, gives the same bytes.
    assert export(place, "again.bundle", "--recipe", str(place / "tuned.bundle" / "recipe.toml")) == Exit.OK
    assert artifact_bytes(place, "again.bundle") == artifact_bytes(place, "tuned.bundle")
    assert export(place, "plain.bundle") == Exit.OK
    assert artifact_bytes(place, "plain.bundle") != artifact_bytes(place, "tuned.bundle")


def test_a_slower_form_is_not_taken(place: Path, forms: Callable[..., None]) -> None:
    forms(lowerings.broadcast, slow)
    assert export(place, "kept.bundle", "--tune") == Exit.OK
    (record,) = manifest(place, "kept.bundle").artifacts
    (choice,) = record.facts.tuned
    assert (choice.lowering, choice.taken) == ("slow", False)
    assert choice.ratio.low > 1


def test_it_is_for_fp32_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(place, "no.bundle", "--tune", "--precision", "fp16") == Exit.USAGE
    assert "equal in fp32" in capsys.readouterr().err


def test_the_plan_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(place, "no.bundle", "--tune", "--dry-run") == Exit.OK
    assert "timed first" in capsys.readouterr().out


def test_a_form_that_nobody_knows_is_named() -> None:
    with pytest.raises(UsageError) as error:
        lowerings.ByGeometry("onnx", (("8/4 2x2", "magic"),))
    assert "'magic'" in str(error.value)
    assert "broadcast" in error.value.expected


def test_the_shipped_table_names_forms_that_exist() -> None:
    for target, table in lowerings._table().items():
        assert set(table.values()) <= set(lowerings.FORMS[target])


@pytest.mark.parametrize("target", sorted(lowerings.FORMS))
def test_exporters_and_forms_agree(target: Any) -> None:
    from ulsam_deploy.device import plugins

    assert plugins.load(plugins.EXPORTERS, target).lowerings == tuple(lowerings.FORMS[target])


def test_the_table_decides_and_what_is_said_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowerings, "_table", lambda: {"onnx": {"8/4 2x2": "take"}})
    here, elsewhere = Block("a", 8, 4, 2, 2), Block("b", 8, 4, 2, 3)
    assert [lowerings.ByGeometry("onnx").name(block) for block in (here, elsewhere)] == ["take", "broadcast"]
    assert lowerings.ByGeometry("onnx", (("8/4 2x2", "spread"),)).name(here) == "spread"
