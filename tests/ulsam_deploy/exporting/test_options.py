"""The options of an export: a value that a field cannot have is an error in words, whoever puts it there."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import ulsam_deploy as ud
from ulsam_deploy.device.errors import UlsamError, UsageError
from ulsam_deploy.exporting.options import _FIELDS, ExportOptions, Recipe


def test_every_field_is_checked() -> None:
    assert {field.name for field in fields(ExportOptions)} == set(_FIELDS)
    ExportOptions(Path("m.pt"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "m.pt"), ("targets", "onnx"), ("targets", ()), ("output", "o"), ("arch", 3), ("factory", Path("x")),
        ("variant", b"x"), ("inputs", "3x64x64"), ("inputs", (3, 64, 64)), ("inputs", ((3, 0, 64),)), ("inputs", ((),)),
        ("batch", "dynamic"), ("batch", 0), ("batch", True), ("batch", 1.0), ("precisions", "int8"),
        ("precisions", ("fp8",)), ("precisions", ()), ("calibration", "c.npz"), ("keep", "features"), ("keep", (3,)),
        ("recipes", ()), ("recipes", {"onnx": "int8"}), ("recipes", {3: Recipe()}), ("budget", None), ("data", 3),
        ("tune", 1), ("preprocessing", "imagenet"), ("probes", []), ("device", None), ("dla", None),
        ("require", "executed"), ("trust_pickle", "no"), ("allow_globals", "os.system"), ("cache", 0),
    ],
)  # fmt: skip
def test_a_value_that_the_field_cannot_have(name: str, value: object) -> None:
    given: dict[str, Any] = {"model": Path("m.pt"), name: value}
    with pytest.raises(UsageError, match=f"^{name} is ") as told:
        ExportOptions(**given)
    assert told.value.expected


@pytest.mark.parametrize("given", [{"batch": "dynamic"}, {"output": 3}, {"keep": "a"}])
def test_a_program_gets_the_error_that_it_is_promised(given: dict[str, Any]) -> None:
    with pytest.raises(UlsamError):
        ud.export("m.pt", targets=["onnx"], **given)


@pytest.mark.parametrize("model", ["/", ".", ""])
def test_a_model_without_a_name(model: str) -> None:
    with pytest.raises(UsageError, match="has no name"):
        _ = ExportOptions(Path(model)).bundle
