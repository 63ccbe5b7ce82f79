"""The public API as programs use it, read by mypy (``make check``) and never run.

A line with ``type: ignore`` is a mistake that the types have to find: mypy refuses an ignore that is of no use.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ulsam_deploy as ud

if TYPE_CHECKING:
    from torch import nn


def as_in_the_readme() -> None:
    bundle = ud.export("model.pt", targets="onnx")
    bundle.raise_if_failed()
    report = ud.verify(bundle)
    passed: bool = report.passed and bundle.passed
    with ud.open(bundle, "onnx") as session:
        logits = session.run(np.zeros((1, 3, 64, 64), np.float32))
    print(passed, logits)


def with_options(network: nn.Module) -> ud.Bundle:
    ud.export(Path("model.pt"), ["onnx", "tflite"], output="here.bundle", batch="dynamic", inputs="3x64x64")
    ud.export("model.pt", precisions=("fp32", "int8"), calibration=Path("real.npz"), keep=["features.1"])
    ud.export("model.pt", precisions="auto", budget={"drop": 0.3, "size": "40%"}, data="labelled.npz")
    ud.export("model.pt", budget=ud.Budget(error=4), require="executed", preprocessing="imagenet", batch=None)
    return ud.export(network, inputs=((3, 224, 224),))


def what_was_found(path: Path) -> list[str]:
    report: ud.Verification = ud.verify(path, "onnx")
    try:
        report.raise_if_failed()
    except ud.CheckFailedError as error:
        return [error.found, error.todo, str(int(error.exit_code))]
    except ud.UlsamError as error:
        return [str(error)]
    first, rest = report[0], report[1:]
    return [item.record.target for item in (first, *rest) if item.evidence] + [f.words for f in report.findings]


def mistakes() -> None:
    ud.export("model.pt", target="onnx")  # type: ignore[call-arg]
    ud.export("model.pt", batch=1.5)  # type: ignore[arg-type]
    ud.export("model.pt", batch="many")  # type: ignore[arg-type]
    ud.export(3)  # type: ignore[arg-type]
    ud.export("model.pt", "onnx", "out.bundle")  # type: ignore[call-arg]
    ud.export("model.pt", budget=3)  # type: ignore[arg-type]
    ud.verify("model.bundle").append(1)  # type: ignore[attr-defined]
    ud.verify("model.bundle").passed = True  # type: ignore[misc]
