"""What every engine must do with a good, a wrong and a broken artifact. The engines are the real ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.errors import ExportError, UsageError

ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tflite": "LiteRT"}


def without_shape_check(made, batch):
    """A session whose specification allows any batch, so that only the artifact itself can refuse one."""
    session = made.session()
    session.__enter__()
    session.inputs = tuple(dataclasses.replace(spec, shape=(None, *spec.shape[1:])) for spec in session.inputs)
    return session


@pytest.mark.parametrize("target", ENGINES)
def test_facts_are_asked_of_the_engine(made: Any, target: Any) -> None:
    with made(target, 4).session() as session:
        facts = session.facts()
    assert facts.engine == ENGINES[target]
    assert facts.version[0].isdigit()
    assert facts.threads == 1
    assert facts.precision == "fp32"


@pytest.mark.parametrize("target", ENGINES)
def test_an_engine_uses_one_thread_unless_it_is_told_to_choose(made: Any, target: Any) -> None:
    found = made(target, 4)
    with found.runtime(found.files, found.artifact.inputs, found.artifact.outputs) as session:
        assert session.facts().threads == 1
    with found.runtime(found.files, found.artifact.inputs, found.artifact.outputs, threads=None) as session:
        assert session.facts().threads == {"onnx": 0, "openvino": session.facts().threads, "tflite": 1}[target]


def test_openvino_layers_really_run_in_fp32(made: Any) -> None:
    with made("openvino", 4).session() as session:
        assert set(session.facts().layer_precisions) == {"f32"}


@pytest.mark.parametrize("target", ENGINES)
def test_runs_are_repeatable_and_results_are_not_overwritten(made: Any, target: Any) -> None:
    one = made(target, 4)
    with one.session() as session:
        first = session.run({"input": one.images(4)})["logits"]
        copy = first.copy()
        session.run({"input": one.images(4) + 1})
        assert np.array_equal(first, copy)
        assert np.array_equal(session.run({"input": one.images(4)})["logits"], copy)


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_static_artifact_refuses_another_batch(made: Any, target: Any, batch: int) -> None:
    one = made(target, 4)
    with one.session() as session, pytest.raises(UsageError, match="shape") as refusal:
        session.run({"input": one.images(batch)})
    assert f"--batch {batch}" in refusal.value.todo


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize("batch", [1, 8])
def test_static_artifact_itself_refuses_another_batch(made: Any, target: Any, batch: int) -> None:
    session = without_shape_check(made(target, 4), batch)
    with pytest.raises(ExportError, match=f"{ENGINES[target]} could not run the model"):
        session.run({"input": made(target, 4).images(batch)})


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_specification_must_be_the_artifacts_own(made: Any, target: str) -> None:
    dynamic, static = made(target, None), made(target, 4)
    swapped = dataclasses.replace(dynamic, artifact=static.artifact)
    with pytest.raises(ExportError, match="has shape Nx3x32x32"), swapped.session():
        pass


@pytest.mark.parametrize("target", ENGINES)
def test_wrong_output_name_is_named(made: Any, target: Any) -> None:
    one = made(target, 4)
    renamed = tuple(dataclasses.replace(spec, name="scores") for spec in one.artifact.outputs)
    wrong = dataclasses.replace(one, artifact=dataclasses.replace(one.artifact, outputs=renamed))
    with pytest.raises(ExportError, match="no output 'scores'") as error, wrong.session():
        pass
    assert "logits" in error.value.expected


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize("harm", ["empty", "noise", "half"])
def test_broken_file_is_an_error_in_the_engines_words(
    made: Any, target: Any, harm: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = made(target, 4)
    for file in one.files:
        content = file.read_bytes()
        harmed = {"empty": b"", "noise": b"\x93\x07" * 500, "half": content[: len(content) // 2]}[harm]
        (tmp_path / file.name).write_bytes(harmed)
    broken = dataclasses.replace(one, folder=tmp_path)
    with pytest.raises(ExportError, match=f"{ENGINES[target]} could not open model"), broken.session():
        pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("target", ENGINES)
def test_missing_file_is_an_error(made: Any, target: Any, tmp_path: Path) -> None:
    gone = dataclasses.replace(made(target, 4), folder=tmp_path)
    with pytest.raises(ExportError, match="could not open model"), gone.session():
        pass


@pytest.mark.parametrize("target", ENGINES)
def test_loading_and_running_says_nothing(made: Any, target: Any, capfd: pytest.CaptureFixture[str]) -> None:
    one = made(target, 4)
    with one.session() as session:
        session.run({"input": one.images(4)})
    assert capfd.readouterr() == ("", "")
