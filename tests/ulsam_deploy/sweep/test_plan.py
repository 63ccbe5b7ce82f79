"""From a file to cells: every axis, keys that change with what a result depends on, and mistakes in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.sweep.plan import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "many.toml"
    path.write_text(text)
    return path


def test_every_combination_is_one_cell(folder: Path) -> None:
    sweep = read(
        write(
            folder,
            """
checkpoints = ["*.pt"]
targets = ["onnx", "tflite"]
precisions = ["fp32", "int8-dynamic"]
inputs = ["3x32x32", "3x64x64"]
devices = ["", "rpi4"]
memory = 1.5
""",
        )
    )
    assert len(sweep.cells) == len({cell.key for cell in sweep.cells}) == 2**5
    assert sweep.memory == 3 << 29
    assert sweep.output == str(folder / "many.sweep")
    first = sweep.cells[0]
    assert first.words == "a onnx fp32 3x32x32"
    # Checkpoints alternate, so that two workers do not compute the same reference at the same time.
    assert sweep.cells[1].words == "b onnx fp32 3x32x32"


def test_a_key_follows_the_content_and_not_the_place(folder: Path) -> None:
    toml = 'checkpoints = ["a.pt"]\ntargets = ["onnx"]\n'
    (key,) = [cell.key for cell in read(write(folder, toml)).cells]
    (elsewhere := folder / "moved").mkdir()
    (elsewhere / "a.pt").write_bytes(b"a.pt")
    assert [cell.key for cell in read(write(elsewhere, toml), "memory://x").cells] == [key]
    (elsewhere / "a.pt").write_bytes(b"another")
    assert [cell.key for cell in read(write(elsewhere, toml)).cells] != [key]
    assert [cell.key for cell in read(write(folder, toml + "batch = 2\n")).cells] != [key]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('checkpoints = ["a.pt"]', "'targets' is missing"),
        ('checkpoints = ["c.pt"]\ntargets = ["onnx"]', "no file matches 'c.pt'"),
        ('checkpoints = []\ntargets = ["onnx"]', "no checkpoints"),
        ('checkpoints = ["a.pt"]\ntargets = []', "targets is []"),
        ('checkpoints = ["a.pt"]\ntargets = ["onyx"]', "no target is called 'onyx'"),
        ('checkpoints = ["a.pt"]\ntargets = ["onnx"]\ntarget = "x"', "'target' says 'targets' a second time"),
        ('checkpoints = ["a.pt"]\ntargets = ["onnx"]\ndevices = ["rpi9"]', "rpi9"),
        ('checkpoints = ["a.pt"]\ntargets = ["onnx"]\nprecisions = ["fp8"]', "fp8"),
        ('checkpoints = ["a.pt"]\ntargets = ["onnx"]\ninputs = ["224"]\nmemory = "much"', "memory is 'much'"),
        ('checkpoints = ["a.pt"]\ntargets = ["onnx"]\nmemory = 0', "memory is 0"),
        ('checkpoints = ["a.pt"]\ntargets = ["onnx"]\nbatch = -1', "batch is -1"),
        ("checkpoints = [", "isn't valid TOML"),
    ],
)
def test_a_mistake_is_named(folder: Path, text: str, found: str) -> None:
    with pytest.raises(UsageError, match=r".") as error:
        read(write(folder, text))
    assert found in str(error.value)


@pytest.mark.parametrize(
    "lines", ['targets = ["ORT", "litert"]\nprecisions = ["float32"]', 'target = "onnx,TFLite"\nprecision = "single"']
)
def test_a_sweep_names_things_as_people_do(folder: Path, lines: str) -> None:
    cells = read(write(folder, f'checkpoint = "a.pt"\n{lines}\n')).cells
    assert [(cell.target, cell.precision) for cell in cells] == [("onnx", "fp32"), ("tflite", "fp32")]
