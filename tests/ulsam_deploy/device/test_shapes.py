"""A shape is spelled in one way, wherever it is read or shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ulsam_deploy.device import shapes
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.shapes import parse_shape, shape_text


def test_what_is_shown_can_be_typed() -> None:
    assert shape_text((None, 3, 224, 224)) == "Nx3x224x224"
    assert shape_text(()) == "a single number"
    assert parse_shape(shape_text((3, 224, 192))) == (3, 224, 192)
    assert parse_shape("3X32x32") == (3, 32, 32)
    assert parse_shape("7") == (7,)


@pytest.mark.parametrize("text", ["", "x", "3x", "3x0", "3x-1", "3,4", "Nx3", "3 x 4", "²x2"])
def test_anything_else_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match="is not an input shape"):
        parse_shape(text)


def test_nothing_else_spells_a_shape() -> None:
    root = Path(shapes.__file__).parents[2]
    rooms = ("ulsam_deploy", "exporters", "runtimes", "models")
    files = (path for room in rooms for path in (root / room).rglob("*.py"))
    found = {path.name for path in files if any(word in path.read_text() for word in ('"x".join', "'x'.join"))}
    assert found == {"shapes.py"}
