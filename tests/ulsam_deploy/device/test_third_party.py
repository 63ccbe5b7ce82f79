"""Other people's tools: asked for without importing them, kept quiet, quoted when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ulsam_deploy.device import third_party
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.third_party import installed, quiet, words_of


def test_missing_package_names_the_extra() -> None:
    found = installed("numpy", "no_such_package", extra="onnx")
    assert not found.usable
    assert found.detail == "not installed: no_such_package"
    assert "ulsam-deploy[onnx]" in found.todo


def test_an_engine_says_itself_what_to_do() -> None:
    found = installed("no_such_package", todo="pip install no-such-package")
    assert found.todo == "pip install no-such-package"


def test_installed_package_is_not_imported() -> None:
    code = (
        "import sys; from ulsam_deploy.device.third_party import installed;"
        "assert installed('numpy', 'pytest', extra='x').usable; assert 'pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_quiet_keeps_native_and_python_chatter_off(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet(r"stale \w+"), warnings.catch_warnings():
        os.write(2, b"native chatter\n")
        print("python chatter")
        warnings.warn("stale advice", stacklevel=1)
    print("after")
    assert capfd.readouterr() == ("after\n", "")


def test_quiet_lets_other_warnings_through() -> None:
    with pytest.warns(UserWarning, match="important"), quiet("stale"):
        warnings.warn("important", stacklevel=1)


def test_failure_quotes_the_exception_and_the_native_error_lines() -> None:
    def convert():
        os.write(2, b"progress 10 %\nerror: 'tfl.mul' op operands\n")
        raise ValueError("pass failed")

    with pytest.raises(ExportError) as error, words_of("Tool", "convert"), quiet():
        convert()
    assert str(error.value) == "Tool could not convert: pass failed\nerror: 'tfl.mul' op operands"


def test_folders_of_this_machine_are_not_quoted() -> None:
    with pytest.raises(ExportError, match=r"^Tool could not open: no model\.onnx here$"), words_of("Tool", "open"):
        raise OSError("no /some/where/model.onnx here")


def test_own_errors_and_interrupts_pass_unchanged() -> None:
    with pytest.raises(UsageError, match="mine"), words_of("Tool", "convert"), quiet():
        raise UsageError("mine")
    with pytest.raises(KeyboardInterrupt), words_of("Tool", "convert"), quiet():
        raise KeyboardInterrupt


def test_openvino_is_loaded_without_its_telemetry() -> None:
    if not third_party.version("openvino-telemetry"):
        pytest.skip("needs the package whose use is to be prevented")
    code = (
        "import sys, openvino_telemetry; from ulsam_deploy.device.third_party import load_openvino; load_openvino();"
        "assert sys.modules['openvino_telemetry'] is None;"
        "from openvino.tools.ovc import telemetry_utils as used; assert 'stub' in used.tm.__name__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_onnx_runtime_is_loaded_without_its_telemetry(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | places
    code = "import ulsam_deploy, onnxruntime"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_long_words_are_cut() -> None:
    with pytest.raises(ExportError) as error, words_of("Tool", "convert"):
        raise RuntimeError("x" * 10_000)
    assert len(str(error.value)) < third_party.MOST_WORDS + 50
