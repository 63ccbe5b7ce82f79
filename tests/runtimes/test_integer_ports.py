"""A .tflite whose inputs and outputs are integers is used with real numbers: its own scales convert them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device import plugins
from ulsam_deploy.device.third_party import quiet
from ulsam_deploy.exporters.tflite import model
from ulsam_deploy.runtimes.ports import Steps

ENGINES = [
    "tflite",
    pytest.param(
        "tflite-micro", marks=pytest.mark.skipif(find_spec("tflite_micro") is None, reason="needs tflite-micro")
    ),
]


def integers(content: bytes, feeds: list[dict[str, Any]]) -> bytes:
    """``content`` in int8 from input to output, as vendors' compilers want it."""
    from ai_edge_quantizer import quantizer, recipe

    with quiet("Warning: Enabling"):
        made = quantizer.Quantizer(bytearray(content), recipe.static_wi8_ai8())
        result = made.quantize(made.calibrate({"serving_default": feeds}))
    return model.write(model.read(bytes(result.quantized_model)))


@pytest.fixture(scope="module")
def file(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = made("tflite", 1)
    feeds = [{"input": image[None].transpose(0, 2, 3, 1).copy()} for image in one.images(20)]
    place = tmp_path_factory.mktemp("integers") / "model.tflite"
    place.write_bytes(integers(one.files[0].read_bytes(), feeds))
    return place


def test_steps_round_and_end_at_the_range() -> None:
    steps = Steps("int8", 0.5, -3)
    assert steps.encoded(np.array([0.0, 0.24, 0.26, 1e9, -1e9])).tolist() == [-3, -3, -2, 127, -128]
    assert steps.decoded(np.array([-3, 127], np.int8)).tolist() == [0.0, 65.0]
    assert Steps("uint8", 0.5, 128).encoded(np.array([0.0, -1e9])).tolist() == [128, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_real_numbers_go_in_and_come_out(engine: str, made: Any, file: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    one = made("tflite", 1)
    images = one.images(3)
    raw = Interpreter(str(file), num_threads=1)
    raw.allocate_tensors()
    (port,), (result,) = raw.get_input_details(), raw.get_output_details()
    assert (port["dtype"], result["dtype"]) == (np.int8, np.int8)
    kind = plugins.load(plugins.RUNTIMES, engine)
    with kind([file], one.artifact.inputs, one.artifact.outputs) as session:
        assert [spec.dtype for ports in session.ports() for spec in ports] == ["float32", "float32"]
        for image in images:
            scale, zero = port["quantization"]
            stored = np.clip(np.rint(image[None].transpose(0, 2, 3, 1) / scale) + zero, -128, 127)
            raw.set_tensor(port["index"], stored.astype(np.int8))
            raw.invoke()
            scale, zero = result["quantization"]
            expected = (raw.get_tensor(result["index"]).astype(np.float32) - zero) * scale
            found = session.run({"input": image[None]})["logits"]
            assert found.dtype == np.float32
            assert np.abs(found - expected).max() <= (0 if engine == "tflite" else 4 * scale)
            assert np.abs(found).max() > 4 * scale


@pytest.mark.long
def test_such_a_file_is_verified_against_its_checkpoint(small_model: Path, tmp_path: Path, capsys: Any) -> None:
    rng = np.random.default_rng(4)
    samples = rng.normal(size=(40, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "real.npz", input=samples)
    assert main(["export", str(small_model), "--target", "tflite", "-o", str(tmp_path / "net.bundle")]) == 0
    capsys.readouterr()
    content = (tmp_path / "net.bundle" / "tflite" / "model.tflite").read_bytes()
    from ai_edge_litert.interpreter import Interpreter

    name = next(iter(Interpreter(model_content=content).get_signature_runner().get_input_details()))
    file = tmp_path / "model.tflite"
    file.write_bytes(integers(content, [{name: one[None].transpose(0, 2, 3, 1).copy()} for one in samples[:20]]))
    asked = ["verify", str(file), "--against", str(small_model), "--precision", "int8", "--json"]
    code = main([*asked, "--calibration", str(tmp_path / "real.npz"), "--layout", "NHWC"])
    found = json.loads(capsys.readouterr().out)
    assert code in (0, 1, 5), found
    assert found["evidence"]["level"] == "executed"
    assert found["evidence"]["engine"]["precision"] == "int8"
    assert found["evidence"]["agreement"]["outputs"][0]["deviation"] < 1.5  # raw integers would be off by far more
